/* pactio/plugin.h: storage plugins for pactio in C, C++ and languages that can declare C structs.
 *
 * A plugin is a shared library with one exported variable, `pactio_plugin_v1`, and a manifest in the section `.pactio`. The host
 * reads the manifest without running code of the library; it loads the library when a device is first opened.
 *
 *   host                                        plugin
 *   pactio_plugin_v1.open(request, out, error)  makes a device: `out->self`, `out->ops`
 *   ops->read(self, request)                    answers at once with a number, or keeps the request and completes it later
 *   ops->close(self)                            ends the device
 *
 * Rules for all functions:
 *  - A plugin's functions may be called from any thread, any number at once, unless a comment says otherwise. They must not
 *    block, except for open, open_name and close, and must not unwind (C++: catch all exceptions).
 *  - Text is UTF-8, has a length, and is borrowed for the call. Names and keys are bytes.
 *  - Every struct with a `size` begins with it. Later versions of this header add fields at the end only. A side reads no field
 *    behind the smaller of both sizes; a function pointer that is NULL means that the function is absent.
 *  - Fields called `reserved` are 0.
 *  - The library is never unloaded.
 *
 * C99 and C++17. Licence: MIT OR Apache-2.0.
 */
#ifndef PACTIO_PLUGIN_H
#define PACTIO_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PACTIO_ABI_MAJOR 1
#define PACTIO_ABI_MINOR 0
/* The first eight bytes of every entry: "pactioC" and 1. */
#define PACTIO_MAGIC UINT64_C(0x01436f6974636170)

/* ===== Errors ===== */

enum {
    PACTIO_FAILED = 1,
    PACTIO_NOT_FOUND = 2,
    PACTIO_PERMISSION_DENIED = 3,
    PACTIO_ALREADY_EXISTS = 4,
    PACTIO_INVALID_INPUT = 5,
    PACTIO_UNSUPPORTED = 6,
    PACTIO_END = 7, /* past the end of the device */
    PACTIO_CANCELLED = 13,
    PACTIO_TIMED_OUT = 14,
    PACTIO_OUT_OF_MEMORY = 15,
    PACTIO_NO_SPACE = 16,
    PACTIO_IO = 17,
    PACTIO_BUSY = 18,
    PACTIO_DISCONNECTED = 19,
    PACTIO_READ_ONLY = 20,
    PACTIO_IS_DIRECTORY = 21,
    PACTIO_CORRUPT = 23,
    PACTIO_TOO_LARGE = 24,
    PACTIO_NOT_SEEKABLE = 25,
    PACTIO_NOT_MAPPED = 27,
    PACTIO_CHANGED = 30,
    PACTIO_NOT_EMPTY = 31,
    PACTIO_CROSSES_DEVICES = 32,
    PACTIO_NOT_DIRECTORY = 33
};

/* ===== Requests ===== */

/* An answer. 0 or more: the first bytes of the request, of this number, are done, and the rest is past the end of the device.
 * Negative: all of it failed with the error `-answer`. PACTIO_KEPT: the request was kept, and is completed later. */
typedef int64_t pactio_answer;
#define PACTIO_KEPT INT64_MIN

/* A request, valid for the call that hands it over. `data` has `len` bytes: memory to be filled for a read, bytes to be taken for
 * a write, which the plugin does not change. */
typedef struct pactio_request {
    uint32_t size;
    uint32_t reserved;
    uint64_t position; /* in bytes from the start of the device; 0 for streams */
    uint8_t *data;
    size_t len;
    uint64_t id; /* names the request in ops->cancel. Parts of one request have the same id, and are cancelled together. */
} pactio_request;

/* A kept request. Each is completed once; 0 is none. */
typedef uint64_t pactio_kept;

/* Wakes the driver of a device. Valid until ops->close returns. */
typedef struct pactio_waker pactio_waker;

/* What the host offers. One table per plugin, valid for the life of the process; all functions may be called from any thread, and
 * from within a call of the plugin. None unwinds. Completing a request runs code of its requester: hold no lock. */
typedef struct pactio_host {
    uint32_t size;
    uint32_t reserved;
    void *object; /* the first argument of log */
    /* Keeps a request beyond the call that handed it over, which then returns PACTIO_KEPT. `data` stays valid until the request
     * is completed. Called once, on the thread of that call, before it returns. 0 if the request was kept or forwarded before. */
    pactio_kept (*keep)(const pactio_request *request);
    /* Completes a kept request: as a returned answer. A request that was completed before is reported, and changes nothing. */
    void (*complete)(pactio_kept kept, pactio_answer answer);
    /* Completes a kept request: the first `done` bytes are done, the rest failed with `error` and a text for people, which may be
     * NULL. */
    void (*complete_part)(pactio_kept kept, size_t done, uint32_t error, const char *text, size_t text_len);
    /* 1 if the result of a kept request is no longer wanted: complete it with -PACTIO_CANCELLED. */
    uint32_t (*is_cancelled)(pactio_kept kept);
    /* Has the host poll the driver of the device that the waker was given to. */
    void (*wake)(const pactio_waker *waker);
    /* Writes to the log of the host. Level: 1 error, 2 warning, 3 information, 4 debug, 5 trace. */
    void (*log)(void *object, uint32_t level, const char *text, size_t len);
    /* Behind the end of older hosts' tables: see `size`. What the requester tells of a kept request, by PACTIO_URGENCY, ...; 0 for
     * other numbers. */
    int64_t (*attribute)(pactio_kept kept, uint32_t attribute);
} pactio_host;

#define PACTIO_URGENCY 1u   /* higher is more urgent, 0 is usual; may change while the request is kept */
#define PACTIO_TIME_LEFT 2u /* nanoseconds until the result is of no use; 0 behind that, INT64_MAX without a deadline */
#define PACTIO_SPAN 3u      /* the number of the span that the request belongs to, for records; 0 without one */

/* The same on every host: an older one tells nothing of requests. */
static inline int64_t pactio_attribute(const pactio_host *host, pactio_kept kept, uint32_t attribute) {
    if (host->size > offsetof(pactio_host, attribute)) return host->attribute(kept, attribute);
    return attribute == PACTIO_TIME_LEFT ? INT64_MAX : 0;
}

/* ===== Devices ===== */

#define PACTIO_READABLE 1u
#define PACTIO_WRITABLE 2u
#define PACTIO_STREAM 4u /* bytes come in order, without positions: read_next, write_next */
#define PACTIO_SIZE_UNKNOWN UINT64_MAX

typedef struct pactio_info {
    uint32_t size;
    uint32_t flags;       /* PACTIO_READABLE, ... */
    uint64_t device_size; /* in bytes, or PACTIO_SIZE_UNKNOWN */
} pactio_info;

/* The requests that a device takes. The host splits, aligns and joins requests to fit. 0 means no limit. */
typedef struct pactio_limits {
    uint32_t size;
    uint32_t alignment;        /* positions and lengths: a power of two */
    uint32_t memory_alignment; /* addresses: a power of two */
    uint32_t in_flight;        /* requests that keep the device busy */
    uint64_t largest;          /* bytes of a request */
} pactio_limits;

#define PACTIO_POLL_WAKER 1u      /* the driver is polled after pactio_host.wake */
#define PACTIO_POLL_DESCRIPTOR 2u /* ... and when the descriptor is ready */
#define PACTIO_CAN_READ 1u
#define PACTIO_CAN_WRITE 2u

typedef struct pactio_polling {
    uint32_t size;
    uint32_t kind;      /* PACTIO_POLL_WAKER or PACTIO_POLL_DESCRIPTOR */
    int32_t descriptor; /* open as long as the device */
    uint32_t interest;  /* PACTIO_CAN_READ, PACTIO_CAN_WRITE */
} pactio_polling;

/* Text of an error of opening. The host has set `size`. */
typedef struct pactio_error {
    uint32_t size;
    uint32_t code; /* PACTIO_NOT_FOUND, ...; 0 counts as PACTIO_FAILED */
    char text[1016]; /* what failed, why, and what to do; ends with a 0, or with the array */
} pactio_error;

/* Gives the reason why a device is not opened; open returns the result. */
static inline uint32_t pactio_refuse(pactio_error *error, uint32_t code, const char *text) {
    size_t at = 0;
    for (; text[at] && at < sizeof(error->text) - 1; at++) error->text[at] = text[at];
    error->text[at] = 0;
    error->code = code;
    return 1;
}

/* Bits of the purpose for which a device is opened. The host passes only bits that the header of the plugin's version has. */
#define PACTIO_OPEN_READ 1u
#define PACTIO_OPEN_WRITE 2u
#define PACTIO_OPEN_CREATE 4u    /* make it if it does not exist */
#define PACTIO_OPEN_TRUNCATE 8u  /* empty it if it exists */
#define PACTIO_OPEN_REPLACE 16u  /* write it anew: others see it after pactio.publish/1 */

struct pactio_device;

typedef struct pactio_device_ops {
    uint32_t size;
    uint32_t reserved;
    /* Ends the device. Called once, when no other call is inside; kept requests that are left fail afterwards. May block. */
    void (*close)(void *self);
    void (*info)(void *self, pactio_info *info);
    /* Requests at positions, and the next bytes of a stream. NULL: unsupported. */
    pactio_answer (*read)(void *self, const pactio_request *request);
    pactio_answer (*write)(void *self, const pactio_request *request);
    pactio_answer (*read_next)(void *self, const pactio_request *request);
    pactio_answer (*write_next)(void *self, const pactio_request *request);
    /* The result of a request is no longer wanted. It is still completed, best at once. NULL: it is completed as usual. */
    void (*cancel)(void *self, uint64_t id);
    /* Asked once, after opening. NULL: any request is taken. */
    void (*limits)(void *self, pactio_limits *limits);
    /* The driver, for devices that make progress when they are polled. NULL: the device needs no poll, since it answers at once or
     * from threads of its own. `polling` is asked after opening, and after each poll of a device with a descriptor: the interest
     * may change, the descriptor not. `poll` is called by one thread at a time: at first once, then after a wake or when the
     * descriptor is ready; the waker is the same in all calls. Returns 0 to go on, and 1 if the device has ended. */
    void (*polling)(void *self, pactio_polling *polling);
    uint32_t (*poll)(void *self, const pactio_waker *waker);
    /* Extensions (below): 1 if the device has the extension with this id. NULL: none. */
    uint32_t (*supports)(void *self, const char *id, size_t id_len);
    /* Runs an extension; the answer is the number of bytes in `answer->data`, or a kept request. */
    pactio_answer (*operate)(void *self, const char *id, size_t id_len, uint64_t number, const uint8_t *text, size_t text_len,
                             const pactio_request *answer);
    /* Opens a name in a device that is a tree: names on the path joined with '/'. 0, or another number and `error`. May block. */
    uint32_t (*open_name)(void *self, const uint8_t *name, size_t name_len, uint32_t mode, struct pactio_device *out,
                          pactio_error *error);
    /* Reads `len` bytes at `position` into `data` if they are at hand: 1 if all of them were read, else 0. No request is made for
     * such a read; `read` answers all others, with the same bytes. NULL: no bytes are at hand. */
    uint32_t (*read_now)(void *self, uint64_t position, uint8_t *data, size_t len);
} pactio_device_ops;

/* An open device. The table is valid until close returns. */
typedef struct pactio_device {
    void *self;
    const pactio_device_ops *ops;
} pactio_device;

/* Extensions that cross as one function, with the meaning of number, text and answer. Records are lists, see pactio_records.
 *
 *  id                     number        text    answer
 *  pactio.flush/1         0 data, 1 all         nothing: writes that were answered are durable
 *  pactio.publish/1                             nothing: others see what was written
 *  pactio.resize/1        the new size          nothing
 *  pactio.zero/1          0 keep, 1 free range   nothing; start and length, 8 bytes each, little-endian
 *  pactio.stat/1                                one record: KIND, SIZE, MODIFIED, VERSION, ...
 *  pactio.list/2          cursor        folder  records of names: NAME, KIND, SIZE, ...
 *  pactio.map/2           cursor                records of ranges that exist: START, END, RIGHTS, NAME
 *  pactio.statistics/2    cursor                records of figures: NAME, VALUE
 *  pactio.remove/1                      name    nothing; of trees that were opened for writing, as the next five
 *  pactio.rename/1        1 replaces    both    nothing; both names have a zero byte between them
 *  pactio.copy-file/1     as in pactio.rename/1; `from` stays
 *  pactio.create-file/1                 name    nothing; fails if the name exists
 *  pactio.create-folder/1               name    nothing
 *  pactio.set-stat/1                    both    nothing; name, zero byte, fields of pactio.stat/1
 *  pactio.watch/1         cursor                records of changes, when there is one: CHANGE, NAME
 */
#define PACTIO_FLUSH "pactio.flush/1"
#define PACTIO_PUBLISH "pactio.publish/1"
#define PACTIO_RESIZE "pactio.resize/1"
#define PACTIO_STAT "pactio.stat/1"
#define PACTIO_LIST "pactio.list/2"
#define PACTIO_MAP "pactio.map/2"
#define PACTIO_STATISTICS "pactio.statistics/2"

/* 1 if `id` is the literal `name`. */
#define PACTIO_IS(id, id_len, name) ((id_len) == sizeof(name) - 1 && pactio_same((id), (name), sizeof(name) - 1))

static inline int pactio_same(const char *one, const char *other, size_t len) {
    for (size_t at = 0; at < len; at++)
        if (one[at] != other[at]) return 0;
    return 1;
}

/* ===== The device below a filter ===== */

#define PACTIO_READ 0u
#define PACTIO_WRITE 1u
#define PACTIO_READ_NEXT 2u
#define PACTIO_WRITE_NEXT 3u

/* Takes the result of a request of the filter: the first `done` bytes are done; the rest failed with `error`, or `error` is 0.
 * `kept` is the request that `start` was given, to be completed now; 0 if there was none, or if it has failed already. May be called
 * before `start` returns, and on any thread. It may also be called after ops->close of the filter's device has returned, when the
 * device below has ended: `context` does not need the filter's device, and `lower` is not used then. */
typedef void (*pactio_completion)(void *context, pactio_kept kept, size_t done, uint32_t error);

/* The device below a filter. Valid until ops->close of the filter's device returns. Any thread may call; with a request, the thread
 * of its call, once. After forward and operate, `data` of the request is not used any more. */
typedef struct pactio_lower {
    uint32_t size;
    uint32_t reserved;
    void (*info)(const struct pactio_lower *lower, pactio_info *info);
    /* Hands a request of the filter on, at a position of the device below. Returns PACTIO_KEPT, which the filter returns in turn. */
    pactio_answer (*forward)(const struct pactio_lower *lower, uint32_t kind, uint64_t position, const pactio_request *request);
    /* Begins a request of the filter. `data` stays valid until the completion is called. With a request, which may be NULL, the new
     * request is made to complete that one: it has its id, and ops->cancel can pass cancellation on. `start` then returns
     * PACTIO_KEPT, which the filter returns in turn; else 0. `data` may be that of the request, which stays valid until `kept` is
     * completed. */
    pactio_answer (*start)(const struct pactio_lower *lower, uint32_t kind, uint64_t position, uint8_t *data, size_t len,
                           const pactio_request *request, pactio_completion completion, void *context);
    /* Extensions of the device below, as in pactio_device_ops. */
    uint32_t (*supports)(const struct pactio_lower *lower, const char *id, size_t id_len);
    pactio_answer (*operate)(const struct pactio_lower *lower, const char *id, size_t id_len, uint64_t number, const uint8_t *text,
                             size_t text_len, const pactio_request *answer);
    /* Passes on that the result of a request is no longer wanted: one that was forwarded, or that `start` was given. */
    void (*cancel)(const struct pactio_lower *lower, uint64_t id);
} pactio_lower;

/* ===== The plugin ===== */

typedef struct pactio_text {
    const char *data;
    size_t len;
} pactio_text;

typedef struct pactio_option {
    pactio_text name;
    pactio_text value;
} pactio_option;

/* The device to open: the URL `scheme:target?name=value`. The host has checked the options against the manifest, and adds the
 * defaults. */
typedef struct pactio_open {
    uint32_t size;
    uint32_t mode; /* PACTIO_OPEN_READ, ... */
    pactio_text scheme;
    pactio_text target;
    const pactio_option *options;
    size_t option_count;
    const pactio_lower *lower; /* the device below; NULL unless the plugin is a filter */
} pactio_open;

/* The value of an option, the last one if it is given twice; NULL if it is not given. */
static inline const pactio_text *pactio_option_of(const pactio_open *request, const char *name) {
    size_t len = 0;
    while (name[len]) len++;
    for (size_t at = request->option_count; at > 0; at--) {
        const pactio_option *option = &request->options[at - 1];
        if (option->name.len == len && pactio_same(option->name.data, name, len)) return &option->value;
    }
    return NULL;
}

/* The exported variable. */
typedef struct pactio_plugin {
    uint64_t magic; /* PACTIO_MAGIC */
    uint32_t size;
    uint16_t abi_major;
    uint16_t abi_minor;
    const char *manifest; /* the same bytes as in the section */
    size_t manifest_len;
    /* Called once, before the first open. 0, or an error. May be NULL. */
    uint32_t (*init)(const pactio_host *host);
    /* Opens a device. 0, or another number and `error`. May block. */
    uint32_t (*open)(const pactio_open *request, pactio_device *out, pactio_error *error);
} pactio_plugin;

#if defined(__APPLE__)
#define PACTIO_SECTION __attribute__((section("__DATA,__pactio"), used))
#else
#define PACTIO_SECTION __attribute__((section(".pactio"), used))
#endif

#ifdef __cplusplus
#define PACTIO_EXTERN extern "C" /* a const at file scope is not exported otherwise */
#else
#define PACTIO_EXTERN extern
#endif

/* The start of a manifest, as in PACTIO_MANIFEST_HEAD "\"id\":\"ramp\", ... }". The fields are those of the book, page "C plugins". */
#define PACTIO_MANIFEST_HEAD "{\"pactio\":1,\"door\":\"c\",\"abi\":\"1.0\",\"needs\":\"1.0\","

/* Exports the plugin: PACTIO_EXPORT(PACTIO_MANIFEST_HEAD "...", init, open) */
#define PACTIO_EXPORT(json, init_function, open_function)                                                                \
    PACTIO_SECTION static const char pactio_manifest[] = json;                                                             \
    PACTIO_EXTERN __attribute__((visibility("default"))) const pactio_plugin pactio_plugin_v1;                             \
    const pactio_plugin pactio_plugin_v1 = {PACTIO_MAGIC,         sizeof(pactio_plugin),       PACTIO_ABI_MAJOR, PACTIO_ABI_MINOR, \
                                            pactio_manifest,      sizeof(pactio_manifest) - 1, init_function,    open_function}

/* ===== Records ===== */

/* Tags of the fields that most records need; the sdk's `field.rs` lists all. Numbers are little-endian, without zeros at the end. */
#define PACTIO_FIELD_NAME 1u
#define PACTIO_FIELD_KIND 2u /* 1 file, 2 folder */
#define PACTIO_FIELD_SIZE 3u
#define PACTIO_FIELD_VERSION 12u
#define PACTIO_FIELD_START 20u
#define PACTIO_FIELD_END 21u
#define PACTIO_FIELD_RIGHTS 22u /* 1 readable, 2 writable, 4 executable */
#define PACTIO_FIELD_VALUE 31u
#define PACTIO_FIELD_CHANGE 34u /* 0 some were missed, 1 made, 2 modified, 3 removed */

/* Writes records into the memory of an answer. A record that does not fit is taken back: end the list with its number as the
 * cursor of the next answer. */
typedef struct pactio_records {
    uint8_t *data;
    size_t room;
    size_t len;
    size_t record; /* where the current record begins */
    int overflow;
} pactio_records;

static inline void pactio_put(pactio_records *records, const void *bytes, size_t len) {
    if (len > records->room - records->len) {
        records->overflow = 1;
        return;
    }
    for (size_t at = 0; at < len; at++) records->data[records->len++] = ((const uint8_t *)bytes)[at];
}

static inline void pactio_put_number(pactio_records *records, uint64_t number, size_t len) {
    uint8_t bytes[8];
    for (size_t at = 0; at < len; at++) bytes[at] = (uint8_t)(number >> (8 * at));
    pactio_put(records, bytes, len);
}

static inline pactio_records pactio_records_in(const pactio_request *answer) {
    pactio_records records = {answer->data, answer->len, 0, 0, 0};
    pactio_put_number(&records, 0, 8);
    return records;
}

static inline void pactio_record_begin(pactio_records *records) {
    records->record = records->len;
    pactio_put_number(records, 0, 4);
}

static inline void pactio_record_bytes(pactio_records *records, uint16_t tag, const void *bytes, uint16_t len) {
    pactio_put_number(records, tag, 2);
    pactio_put_number(records, len, 2);
    pactio_put(records, bytes, len);
}

static inline void pactio_record_number(pactio_records *records, uint16_t tag, uint64_t number) {
    uint16_t len = 0;
    for (uint64_t rest = number; rest; rest >>= 8) len++;
    pactio_put_number(records, tag, 2);
    pactio_put_number(records, len, 2);
    pactio_put_number(records, number, len);
}

/* 1 if the record fits; 0 if it was taken back. */
static inline int pactio_record_end(pactio_records *records) {
    if (records->overflow) {
        records->len = records->record;
        records->overflow = 0;
        return 0;
    }
    size_t len = records->len - records->record - 4;
    for (size_t at = 0; at < 4; at++) records->data[records->record + at] = (uint8_t)(len >> (8 * at));
    return 1;
}

/* The answer of a list. `next` is the cursor of the next answer; 0 ends the list. */
static inline pactio_answer pactio_records_end(pactio_records *records, uint64_t next) {
    if (records->len < 8) return -PACTIO_TOO_LARGE;
    for (size_t at = 0; at < 8; at++) records->data[at] = (uint8_t)(next >> (8 * at));
    return (pactio_answer)records->len;
}

#ifdef __cplusplus
}
#endif

#endif
