/* A plugin that breaks the contract in the way that its target names: `wrong:twice`. */
#include <pactio/plugin.h>
#include <stdlib.h>
#include <string.h>

static const pactio_host *host;
static pactio_kept forgotten;
static int set_up;

/* Devices that the host refuses are not closed: all stay reachable, so that leak checkers are quiet. Not static, since a compiler
 * leaves out what is only written. */
void *wrong_devices[4096];
static size_t device_count;

static int is(const char *target, const char *name) { return strcmp(target, name) == 0; }

typedef struct wrong {
    pactio_device_ops ops;
    const char *target;
} wrong;

static void wrong_close(void *self) {
    wrong *this = self;
    /* After the device is closed, its kept requests have failed. */
    if (is(this->target, "late")) host->complete(forgotten, 1);
}

static void wrong_info(void *self, pactio_info *info) {
    (void)self;
    info->flags = PACTIO_READABLE | PACTIO_WRITABLE;
    info->device_size = 1000;
}

static pactio_answer wrong_read(void *self, const pactio_request *request) {
    const char *target = ((wrong *)self)->target;
    memset(request->data, 7, request->len);
    if (is(target, "aligned") && (uintptr_t)request->data % 512 != 0) return -PACTIO_CORRUPT;
    if (is(target, "set-up")) memset(request->data, set_up, request->len);
    if (is(target, "twice")) {
        pactio_kept kept = host->keep(request);
        host->complete(kept, (pactio_answer)request->len);
        host->complete(kept, (pactio_answer)request->len);
        host->complete_part(kept, 0, PACTIO_IO, "again", 5);
        return PACTIO_KEPT;
    }
    if (is(target, "kept-and-answered")) {
        pactio_kept kept = host->keep(request);
        host->complete(kept, (pactio_answer)request->len);
        return (pactio_answer)request->len;
    }
    if (is(target, "kept-twice")) {
        pactio_kept kept = host->keep(request), other = host->keep(request);
        host->complete(kept, (pactio_answer)request->len);
        if (other) host->complete(other, 1);
        return PACTIO_KEPT;
    }
    if (is(target, "not-kept")) return PACTIO_KEPT;
    if (is(target, "too-long")) return (pactio_answer)request->len + 1;
    if (is(target, "too-long-later")) {
        host->complete_part(host->keep(request), request->len + 1, 0, NULL, 0);
        return PACTIO_KEPT;
    }
    if (is(target, "completed-as-kept")) {
        host->complete(host->keep(request), PACTIO_KEPT);
        return PACTIO_KEPT;
    }
    if (is(target, "no-such-number")) {
        host->complete(0, 5);
        host->complete(UINT64_MAX, 5);
        return (pactio_answer)request->len;
    }
    if (is(target, "told")) { /* no mistake: three numbers that the requester tells, and 0 for an unknown one */
        if (request->len < 32) return -PACTIO_TOO_LARGE;
        pactio_kept kept = host->keep(request);
        int64_t told[4];
        for (uint32_t which = 1; which <= 4; which++) told[which - 1] = pactio_attribute(host, kept, which);
        memcpy(request->data, told, sizeof(told));
        host->complete(kept, sizeof(told));
        return PACTIO_KEPT;
    }
    if (is(target, "late") || is(target, "forgotten")) {
        forgotten = host->keep(request);
        return PACTIO_KEPT;
    }
    if (is(target, "unknown-error")) return -200;
    if (is(target, "huge-error")) return -1000000;
    if (is(target, "in-part")) {
        host->complete_part(host->keep(request), 3, PACTIO_IO, "the disk is loud", 16);
        return PACTIO_KEPT;
    }
    return (pactio_answer)request->len;
}

static pactio_answer wrong_write(void *self, const pactio_request *request) {
    (void)self;
    return (pactio_answer)request->len;
}

static void wrong_limits(void *self, pactio_limits *limits) {
    (void)self;
    limits->alignment = 3;
}

static void wrong_alignment(void *self, pactio_limits *limits) {
    (void)self;
    limits->memory_alignment = 512;
}

static uint32_t wrong_open(const pactio_open *request, pactio_device *out, pactio_error *error) {
    char *target = calloc(1, request->target.len + 1);
    wrong_devices[device_count++ % 4096] = target;
    memcpy(target, request->target.data, request->target.len);
    if (is(target, "refused")) return pactio_refuse(error, PACTIO_NOT_FOUND, "it is not here");
    if (is(target, "refused-without-text")) return 7;
    if (is(target, "refused-endless")) {
        memset(error->text, 'x', sizeof(error->text));
        error->code = 400000;
        return 1;
    }
    wrong *this = calloc(1, sizeof(wrong));
    wrong_devices[device_count++ % 4096] = this;
    this->target = target;
    this->ops = (pactio_device_ops){.size = sizeof(pactio_device_ops),
                                    .close = wrong_close,
                                    .info = wrong_info,
                                    .read = wrong_read,
                                    .write = wrong_write};
    if (is(target, "aligned")) this->ops.limits = wrong_alignment;
    if (is(target, "limits")) this->ops.limits = wrong_limits;
    if (is(target, "no-close")) this->ops.close = NULL;
    if (is(target, "no-info")) this->ops.info = NULL;
    if (is(target, "no-read")) this->ops.read = NULL;
    if (strncmp(target, "size-", 5) == 0) this->ops.size = (uint32_t)strtoul(target + 5, NULL, 10);
    out->self = this;
    out->ops = is(target, "no-table") ? NULL : &this->ops;
    return 0;
}

static uint32_t wrong_init(const pactio_host *table) {
    host = table;
    set_up++;
    return 0;
}

PACTIO_EXPORT(PACTIO_MANIFEST_HEAD "\"id\":\"wrong\",\"version\":\"1\",\"description\":\"breaks the contract\","
                                   "\"schemes\":[\"wrong\"],\"license\":\"MIT OR Apache-2.0                  \"}",
              wrong_init, wrong_open);
