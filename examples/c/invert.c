/* A filter in C: inverts each byte on its way.
 *
 *   make && pactio --plugin-path . hexdump 'ramp:64 | invert'
 */
#include <pactio/plugin.h>
#include <stdlib.h>

static const pactio_host *host;

/* A request that the device below works on. */
typedef struct work {
    uint8_t *data;
    uint8_t *copy; /* of a write; NULL for a read */
} work;

static void invert(uint8_t *to, const uint8_t *from, size_t len) {
    for (size_t at = 0; at < len; at++) to[at] = (uint8_t)~from[at];
}

static void completed(void *context, pactio_kept kept, size_t done, uint32_t error) {
    work *this = context;
    if (kept) {
        if (!this->copy) invert(this->data, this->data, done);
        host->complete_part(kept, done, error, NULL, 0);
    }
    free(this->copy);
    free(this);
}

/* Has the device below work on a request, or on an inverted copy of its bytes. */
static pactio_answer begin(const pactio_lower *lower, uint32_t kind, const pactio_request *request) {
    work *this = malloc(sizeof(work));
    uint8_t *copy = kind == PACTIO_WRITE ? malloc(request->len ? request->len : 1) : NULL;
    if (!this || (kind == PACTIO_WRITE && !copy)) {
        free(this);
        free(copy);
        return -PACTIO_OUT_OF_MEMORY;
    }
    *this = (work){request->data, copy};
    if (copy) invert(copy, request->data, request->len);
    return lower->start(lower, kind, request->position, copy ? copy : request->data, request->len, request, completed, this);
}

static void invert_close(void *self) { (void)self; }

static void invert_info(void *self, pactio_info *info) { ((const pactio_lower *)self)->info(self, info); }

static pactio_answer invert_read(void *self, const pactio_request *request) { return begin(self, PACTIO_READ, request); }

static pactio_answer invert_write(void *self, const pactio_request *request) { return begin(self, PACTIO_WRITE, request); }

static void invert_cancel(void *self, uint64_t id) { ((const pactio_lower *)self)->cancel(self, id); }

/* Writes become durable or visible, and sizes change, as the device below does it; other extensions would show its bytes. */
static uint32_t invert_supports(void *self, const char *id, size_t len) {
    int passes = PACTIO_IS(id, len, PACTIO_FLUSH) || PACTIO_IS(id, len, PACTIO_PUBLISH) || PACTIO_IS(id, len, PACTIO_STAT);
    return passes && ((const pactio_lower *)self)->supports(self, id, len);
}

static pactio_answer invert_operate(void *self, const char *id, size_t id_len, uint64_t number, const uint8_t *text, size_t text_len,
                                    const pactio_request *answer) {
    return ((const pactio_lower *)self)->operate(self, id, id_len, number, text, text_len, answer);
}

static const pactio_device_ops invert_ops = {
    .size = sizeof(pactio_device_ops),
    .close = invert_close,
    .info = invert_info,
    .read = invert_read,
    .write = invert_write,
    .cancel = invert_cancel,
    .supports = invert_supports,
    .operate = invert_operate,
};

static uint32_t invert_open(const pactio_open *request, pactio_device *out, pactio_error *error) {
    (void)error;
    out->self = (void *)request->lower;
    out->ops = &invert_ops;
    return 0;
}

static uint32_t invert_init(const pactio_host *table) {
    host = table;
    return 0;
}

PACTIO_EXPORT(PACTIO_MANIFEST_HEAD "\"id\":\"invert\",\"version\":\"1.0.0\",\"license\":\"MIT OR Apache-2.0\","
                                   "\"description\":\"a filter that inverts each byte\",\"filter\":true,"
                                   "\"schemes\":[\"invert\"],\"check\":\"memory:?size=100KiB | invert\"}",
              invert_init, invert_open);
