/* A plugin in C: devices whose byte at position n is the last byte of n, and which can be written in memory.
 *
 *   make && pactio --plugin-path . hexdump 'ramp:64'
 */
#include <pactio/plugin.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct ramp {
    pthread_rwlock_t lock;
    size_t len;
    uint8_t bytes[];
} ramp;

static void ramp_close(void *self) {
    ramp *this = self;
    pthread_rwlock_destroy(&this->lock);
    free(this);
}

static void ramp_info(void *self, pactio_info *info) {
    info->flags = PACTIO_READABLE | PACTIO_WRITABLE;
    info->device_size = ((ramp *)self)->len;
}

/* The bytes of a request that the device has. */
static size_t ramp_part(const ramp *this, const pactio_request *request) {
    if (request->position >= this->len) return 0;
    size_t rest = this->len - (size_t)request->position;
    return request->len < rest ? request->len : rest;
}

static pactio_answer ramp_read(void *self, const pactio_request *request) {
    ramp *this = self;
    size_t len = ramp_part(this, request);
    if (len == 0) return request->len == 0 ? 0 : -PACTIO_END;
    pthread_rwlock_rdlock(&this->lock);
    memcpy(request->data, this->bytes + request->position, len);
    pthread_rwlock_unlock(&this->lock);
    return (pactio_answer)len;
}

/* The same for bytes that all exist, without a request. */
static uint32_t ramp_read_now(void *self, uint64_t position, uint8_t *data, size_t len) {
    ramp *this = self;
    if (position > this->len || len > this->len - position) return 0;
    pthread_rwlock_rdlock(&this->lock);
    memcpy(data, this->bytes + position, len);
    pthread_rwlock_unlock(&this->lock);
    return 1;
}

static pactio_answer ramp_write(void *self, const pactio_request *request) {
    ramp *this = self;
    size_t len = ramp_part(this, request);
    if (len == 0) return request->len == 0 ? 0 : -PACTIO_END;
    pthread_rwlock_wrlock(&this->lock);
    memcpy(this->bytes + request->position, request->data, len);
    pthread_rwlock_unlock(&this->lock);
    return (pactio_answer)len;
}

static const pactio_device_ops ramp_ops = {
    .size = sizeof(pactio_device_ops),
    .close = ramp_close,
    .info = ramp_info,
    .read = ramp_read,
    .write = ramp_write,
    .read_now = ramp_read_now,
};

static uint32_t ramp_open(const pactio_open *request, pactio_device *out, pactio_error *error) {
    size_t len = 0;
    for (size_t at = 0; at < request->target.len; at++) {
        char digit = request->target.data[at];
        if (digit < '0' || digit > '9' || len > SIZE_MAX / 100)
            return pactio_refuse(error, PACTIO_INVALID_INPUT, "the target is no number of bytes; try ramp:4096");
        len = len * 10 + (size_t)(digit - '0');
    }
    ramp *this = len > SIZE_MAX - sizeof(ramp) ? NULL : malloc(sizeof(ramp) + len);
    if (!this) return pactio_refuse(error, PACTIO_OUT_OF_MEMORY, "there is no memory for a device of this size");
    pthread_rwlock_init(&this->lock, NULL);
    this->len = len;
    for (size_t at = 0; at < len; at++) this->bytes[at] = (uint8_t)at;
    out->self = this;
    out->ops = &ramp_ops;
    return 0;
}

PACTIO_EXPORT(PACTIO_MANIFEST_HEAD "\"id\":\"ramp\",\"version\":\"1.0.0\",\"license\":\"MIT OR Apache-2.0\","
                                   "\"description\":\"devices in memory that begin as a ramp of bytes\","
                                   "\"schemes\":[\"ramp\"],\"check\":\"ramp:100000\"}",
              NULL, ramp_open);
