/* A plugin whose devices do what the bytes of their target say: `random:0a1b...`. Each call takes the next byte. They answer at once,
 * later, on another thread, in part, twice, too long, with any error, and not at all. They do not write to memory that was given back. */
#include <pactio/plugin.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLOTS 32

static const pactio_host *host;

typedef struct slot {
    pactio_kept kept;
    uint8_t *data;
    size_t len;
    int is_open;
} slot;

typedef struct device {
    pthread_mutex_t lock;
    pthread_t thread;
    int ends;
    slot slots[SLOTS];
    const pactio_waker *_Atomic waker;
    uint64_t state;
    size_t at, len;
    uint8_t bytes[];
} device;

/* The next byte; behind the end of the target, they are pseudo-random. The lock is held. */
static uint8_t next(device *this) {
    if (this->at < this->len) return this->bytes[this->at++];
    this->state = this->state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint8_t)(this->state >> 56);
}

static uint8_t take(device *this) {
    pthread_mutex_lock(&this->lock);
    uint8_t byte = next(this);
    pthread_mutex_unlock(&this->lock);
    return byte;
}

/* Completes a slot in the way that a byte says. A slot that is not open was completed before. */
static void complete(device *this, uint8_t which, uint8_t how) {
    pthread_mutex_lock(&this->lock);
    slot *place = &this->slots[which % SLOTS];
    slot found = *place;
    if (place->is_open && found.data) memset(found.data, 7, found.len);
    place->is_open = 0;
    pthread_mutex_unlock(&this->lock);
    if (!found.kept || (!found.is_open && how % 4)) return;
    switch (how >> 4) {
        case 0: host->complete(found.kept, -(pactio_answer)how); break;
        case 1: host->complete_part(found.kept, found.len / 2, how, "a text", 6); break;
        case 2: host->complete_part(found.kept, found.len + how, 0, NULL, 0); break;
        case 3: host->complete(found.kept, (pactio_answer)(found.len + how)); break;
        case 4: host->complete(found.kept, PACTIO_KEPT + how); break;
        case 5: host->complete_part(found.kept, 0, how, NULL, 0); break;
        case 6: host->complete(found.kept, (pactio_answer)(found.len / 3)); break;
        default: host->complete(found.kept, (pactio_answer)found.len);
    }
}

static pactio_answer answer(device *this, const pactio_request *request, int fills) {
    uint8_t how = take(this);
    if (fills && request->len) memset(request->data, 7, request->len);
    if (how < 64) return (pactio_answer)request->len;
    if (how < 80) return (pactio_answer)(request->len / 2);
    if (how < 96) return -(pactio_answer)how;
    if (how < 100) return (pactio_answer)(request->len + how);
    if (how < 104) return PACTIO_KEPT;
    if (how < 108) return -(pactio_answer)how * 1000000;
    pactio_kept kept = host->keep(request), again = how < 116 ? host->keep(request) : 0;
    uint8_t which = take(this);
    pthread_mutex_lock(&this->lock);
    slot old = this->slots[which % SLOTS];
    this->slots[which % SLOTS] = (slot){kept, fills ? request->data : NULL, request->len, 1};
    pthread_mutex_unlock(&this->lock);
    /* What was there is completed in the last moment, or forgotten. */
    if (old.is_open && how % 2) host->complete(old.kept, -PACTIO_IO);
    if (again) host->complete(again, 1);
    if (how < 180) complete(this, which, take(this));
    if (how % 3 == 0) host->is_cancelled(kept);
    const pactio_waker *waker = this->waker;
    if (how % 5 == 0 && waker) host->wake(waker);
    if (how != 200) return PACTIO_KEPT;
    /* An answer besides gives the memory back. */
    pthread_mutex_lock(&this->lock);
    for (int at = 0; at < SLOTS; at++)
        if (this->slots[at].kept == kept) this->slots[at].is_open = 0;
    pthread_mutex_unlock(&this->lock);
    return (pactio_answer)request->len;
}

static void *later(void *self) {
    device *this = self;
    for (;;) {
        struct timespec pause = {0, 200000};
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&this->lock);
        int ends = this->ends;
        uint8_t which = next(this), how = next(this);
        pthread_mutex_unlock(&this->lock);
        if (ends) return NULL;
        complete(this, which, how);
    }
}

static pactio_answer random_read(void *self, const pactio_request *request) { return answer(self, request, 1); }
static pactio_answer random_write(void *self, const pactio_request *request) { return answer(self, request, 0); }

static void random_cancel(void *self, uint64_t id) { complete(self, (uint8_t)id, take(self)); }

static void random_info(void *self, pactio_info *info) {
    info->flags = PACTIO_READABLE | PACTIO_WRITABLE | (take(self) == 1 ? PACTIO_STREAM : 0);
    info->device_size = take(self) < 128 ? 10000 : PACTIO_SIZE_UNKNOWN;
}

static void random_limits(void *self, pactio_limits *limits) {
    uint8_t how = take(self);
    if (how < 64) return;
    limits->alignment = how % 4 ? 1u << how % 10 : how;
    limits->memory_alignment = 1u << take(self) % 13;
    limits->largest = (uint64_t)take(self) * 64;
    limits->in_flight = take(self);
}

static void random_polling(void *self, pactio_polling *polling) {
    (void)self;
    polling->kind = PACTIO_POLL_WAKER;
}

static uint32_t random_poll(void *self, const pactio_waker *waker) {
    device *this = self;
    this->waker = waker;
    complete(this, take(this), take(this));
    return 0;
}

static uint32_t random_supports(void *self, const char *id, size_t id_len) {
    (void)id;
    return id_len % 2 || take(self) < 200;
}

static pactio_answer random_operate(void *self, const char *id, size_t id_len, uint64_t number, const uint8_t *text, size_t text_len,
                                    const pactio_request *request) {
    (void)id, (void)id_len, (void)number, (void)text, (void)text_len;
    device *this = self;
    /* The bytes of the target as records. */
    size_t len = this->len < request->len ? this->len : request->len;
    if (len) memcpy(request->data, this->bytes, len);
    return take(this) < 128 ? (pactio_answer)len : answer(self, request, 1);
}

static uint32_t random_open_name(void *self, const uint8_t *name, size_t name_len, uint32_t mode, pactio_device *out,
                                 pactio_error *error) {
    (void)name, (void)name_len, (void)mode, (void)out;
    return pactio_refuse(error, take(self), "no name");
}

static void random_close(void *self) {
    device *this = self;
    pthread_mutex_lock(&this->lock);
    this->ends = 1;
    pthread_mutex_unlock(&this->lock);
    pthread_join(this->thread, NULL);
    for (int which = 0; which < SLOTS / 2; which++) complete(this, (uint8_t)which, take(this));
    pthread_mutex_destroy(&this->lock);
    free(this);
}

static const pactio_device_ops ops = {.size = sizeof(pactio_device_ops),
                                      .close = random_close,
                                      .info = random_info,
                                      .read = random_read,
                                      .write = random_write,
                                      .read_next = random_read,
                                      .write_next = random_write,
                                      .cancel = random_cancel,
                                      .limits = random_limits,
                                      .supports = random_supports,
                                      .operate = random_operate,
                                      .open_name = random_open_name};

/* With a driver. */
static const pactio_device_ops driven = {.size = sizeof(pactio_device_ops),
                                         .close = random_close,
                                         .info = random_info,
                                         .read = random_read,
                                         .write = random_write,
                                         .cancel = random_cancel,
                                         .polling = random_polling,
                                         .poll = random_poll};

static int digit(char character) { return character <= '9' ? character - '0' : character - 'a' + 10; }

static uint32_t random_open(const pactio_open *request, pactio_device *out, pactio_error *error) {
    size_t len = request->target.len / 2;
    const char *text = (const char *)request->target.data;
    device *this = calloc(1, sizeof(device) + len);
    if (!this) return pactio_refuse(error, PACTIO_OUT_OF_MEMORY, "no memory");
    for (size_t at = 0; at < len; at++) this->bytes[at] = (uint8_t)(digit(text[2 * at]) << 4 | digit(text[2 * at + 1]));
    this->len = len;
    for (size_t at = 0; at < len; at++) this->state = this->state * 31 + this->bytes[at];
    pthread_mutex_init(&this->lock, NULL);
    if (pthread_create(&this->thread, NULL, later, this)) {
        free(this);
        return pactio_refuse(error, PACTIO_BUSY, "no thread");
    }
    out->self = this;
    out->ops = take(this) < 128 ? &ops : &driven;
    return 0;
}

static uint32_t random_init(const pactio_host *table) {
    host = table;
    return 0;
}

PACTIO_EXPORT(PACTIO_MANIFEST_HEAD "\"id\":\"random\",\"version\":\"1\",\"description\":\"does what its bytes say\","
                                   "\"schemes\":[\"random\"],\"license\":\"MIT OR Apache-2.0\"}",
              random_init, random_open);
