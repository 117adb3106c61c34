// pactio/plugin.hpp: plugins for pactio in C++17, over pactio/plugin.h.
//
// A device derives from pactio::device. Exceptions end in the functions of this header: a request fails, and opening gives the
// text of the exception. Licence: MIT OR Apache-2.0.
#ifndef PACTIO_PLUGIN_HPP
#define PACTIO_PLUGIN_HPP

#include <pactio/plugin.h>

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>

// Hidden, so that two plugins in one process do not share its variables.
namespace pactio __attribute__((visibility("hidden"))) {

// An error with a number of plugin.h. Thrown while a device is opened, its text reaches the user.
class error : public std::exception {
  public:
    error(uint32_t code, std::string text) : code_(code != 0 ? code : uint32_t{PACTIO_FAILED}), text_(std::move(text)) {}
    uint32_t code() const noexcept { return code_; }
    const char *what() const noexcept override { return text_.c_str(); }

  private:
    uint32_t code_;
    std::string text_;
};

// The table of the host; set before the first device is opened.
inline const pactio_host *host = nullptr;

// Writes to the log of the host. Level: 1 error to 5 trace.
inline void log(uint32_t level, std::string_view text) { host->log(host->object, level, text.data(), text.size()); }

// A request that is completed later. If it is dropped without that, it fails.
class kept {
  public:
    // Keeps the request of the call that is under way, which then returns PACTIO_KEPT. Throws std::bad_alloc.
    explicit kept(const pactio_request &request) : data_(request.data), len_(request.len), number_(host->keep(&request)) {
        if (number_ == 0) throw std::bad_alloc();
    }
    // Takes over a request that was kept.
    kept(pactio_kept number, uint8_t *data, size_t len) noexcept : data_(data), len_(len), number_(number) {}
    kept(kept &&other) noexcept : data_(other.data_), len_(other.len_), number_(std::exchange(other.number_, 0)) {}
    kept &operator=(kept &&other) noexcept {
        if (this != &other) {
            fail(PACTIO_FAILED);
            data_ = other.data_, len_ = other.len_, number_ = std::exchange(other.number_, 0);
        }
        return *this;
    }
    kept(const kept &) = delete;
    kept &operator=(const kept &) = delete;
    ~kept() { fail(PACTIO_FAILED); }

    uint8_t *data() const noexcept { return data_; }
    size_t size() const noexcept { return len_; }
    bool is_cancelled() const noexcept { return host->is_cancelled(number_) != 0; }
    // PACTIO_URGENCY, PACTIO_TIME_LEFT or PACTIO_SPAN.
    int64_t attribute(uint32_t which) const noexcept { return pactio_attribute(host, number_, which); }
    // The first `done` bytes are done; the rest is past the end of the device.
    void complete(size_t done) noexcept {
        if (auto number = std::exchange(number_, 0)) host->complete(number, static_cast<pactio_answer>(done));
    }
    // The first `done` bytes are done; the rest failed.
    void fail(uint32_t code, std::string_view text = {}, size_t done = 0) noexcept {
        if (auto number = std::exchange(number_, 0)) host->complete_part(number, done, code, text.data(), text.size());
    }

  private:
    uint8_t *data_;
    size_t len_;
    pactio_kept number_;
};

// A device. Its methods may be called from any thread, any number at once, and must not block.
class device {
  public:
    virtual ~device() = default; // the device is closed
    virtual void info(pactio_info &info) = 0;
    virtual pactio_answer read(const pactio_request &) { return -PACTIO_UNSUPPORTED; }
    virtual pactio_answer write(const pactio_request &) { return -PACTIO_UNSUPPORTED; }
    virtual pactio_answer read_next(const pactio_request &) { return -PACTIO_UNSUPPORTED; }
    virtual pactio_answer write_next(const pactio_request &) { return -PACTIO_UNSUPPORTED; }
    virtual void limits(pactio_limits &) {}
    virtual bool supports(std::string_view) { return false; }
    virtual pactio_answer operate(std::string_view, uint64_t, std::string_view, const pactio_request &) {
        return -PACTIO_UNSUPPORTED;
    }
};

namespace detail {

inline pactio_answer failure() noexcept {
    try {
        throw;
    } catch (const error &thrown) {
        return -static_cast<pactio_answer>(thrown.code());
    } catch (const std::bad_alloc &) {
        return -PACTIO_OUT_OF_MEMORY;
    } catch (...) {
        return -PACTIO_FAILED;
    }
}

template <pactio_answer (device::*Method)(const pactio_request &)>
pactio_answer transfer(void *self, const pactio_request *request) {
    try {
        return (static_cast<device *>(self)->*Method)(*request);
    } catch (...) {
        return failure();
    }
}

inline void close(void *self) { delete static_cast<device *>(self); }

inline void info(void *self, pactio_info *info) {
    try {
        static_cast<device *>(self)->info(*info);
    } catch (...) {
        info->flags = 0;
    }
}

inline void limits(void *self, pactio_limits *limits) {
    try {
        static_cast<device *>(self)->limits(*limits);
    } catch (...) {
    }
}

inline uint32_t supports(void *self, const char *id, size_t id_len) {
    try {
        return static_cast<device *>(self)->supports({id, id_len}) ? 1 : 0;
    } catch (...) {
        return 0;
    }
}

inline pactio_answer operate(void *self, const char *id, size_t id_len, uint64_t number, const uint8_t *text, size_t text_len,
                             const pactio_request *answer) {
    try {
        std::string_view name(reinterpret_cast<const char *>(text), text_len);
        return static_cast<device *>(self)->operate({id, id_len}, number, name, *answer);
    } catch (...) {
        return failure();
    }
}

inline pactio_device_ops make_ops() {
    pactio_device_ops ops{};
    ops.size = sizeof(ops);
    ops.close = close;
    ops.info = info;
    ops.read = transfer<&device::read>;
    ops.write = transfer<&device::write>;
    ops.read_next = transfer<&device::read_next>;
    ops.write_next = transfer<&device::write_next>;
    ops.limits = limits;
    ops.supports = supports;
    ops.operate = operate;
    return ops;
}

inline const pactio_device_ops ops = make_ops();

} // namespace detail

// The functions of an entry: PACTIO_EXPORT(json, pactio::init, pactio::open<open_ramp>);
inline uint32_t init(const pactio_host *table) {
    host = table;
    return 0;
}

template <std::unique_ptr<device> (*Open)(const pactio_open &)>
uint32_t open(const pactio_open *request, pactio_device *out, pactio_error *failure) {
    try {
        auto opened = Open(*request);
        if (!opened) return pactio_refuse(failure, PACTIO_FAILED, "the plugin has opened no device");
        out->self = opened.release();
        out->ops = &detail::ops;
        return 0;
    } catch (const error &thrown) {
        return pactio_refuse(failure, thrown.code(), thrown.what());
    } catch (const std::exception &thrown) {
        return pactio_refuse(failure, PACTIO_FAILED, thrown.what());
    } catch (...) {
        return pactio_refuse(failure, PACTIO_FAILED, "the plugin threw an unknown exception");
    }
}

} // namespace pactio

#endif
