// A plugin in C++: devices that are full of one byte, and answer from a thread of their own.
//
//   make && pactio --plugin-path . hexdump 'later:64?fill=65'
#include <pactio/plugin.hpp>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

namespace {

class later final : public pactio::device {
  public:
    later(uint64_t size, uint8_t fill) : size_(size), fill_(fill), thread_([this] { work(); }) {}

    ~later() override {
        {
            std::lock_guard lock(mutex_);
            ended_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }

    void info(pactio_info &info) override {
        info.flags = PACTIO_READABLE;
        info.device_size = size_;
    }

    pactio_answer read(const pactio_request &request) override {
        if (request.position >= size_) return request.len == 0 ? 0 : -PACTIO_END;
        size_t done = static_cast<size_t>(std::min<uint64_t>(request.len, size_ - request.position));
        // Before the lock: a request that is dropped, such as for want of memory, runs code of the requester.
        job next{pactio::kept(request), done};
        {
            std::lock_guard lock(mutex_);
            queue_.push_back(std::move(next));
        }
        changed_.notify_one();
        return PACTIO_KEPT;
    }

  private:
    struct job {
        pactio::kept request;
        size_t done;
    };

    void work() {
        std::unique_lock lock(mutex_);
        for (;;) {
            changed_.wait(lock, [this] { return ended_ || !queue_.empty(); });
            if (queue_.empty()) return;
            job next = std::move(queue_.front());
            queue_.pop_front();
            // Without the lock: the completion may run code of the requester, which may send another request.
            lock.unlock();
            if (next.request.is_cancelled()) {
                next.request.fail(PACTIO_CANCELLED);
            } else {
                std::memset(next.request.data(), fill_, next.done);
                next.request.complete(next.done);
            }
            lock.lock();
        }
    }

    const uint64_t size_;
    const uint8_t fill_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<job> queue_;
    bool ended_ = false;
    std::thread thread_; // the last field, since it uses the others
};

std::unique_ptr<pactio::device> open_later(const pactio_open &request) {
    std::string target(request.target.data, request.target.len);
    if (target.empty() || target.find_first_not_of("0123456789") != std::string::npos || target.size() > 18)
        throw pactio::error(PACTIO_INVALID_INPUT, "the target '" + target + "' is no number of bytes; try later:4096");
    const pactio_text *fill = pactio_option_of(&request, "fill");
    int byte = fill ? std::stoi(std::string(fill->data, fill->len)) : 0;
    return std::make_unique<later>(std::stoull(target), static_cast<uint8_t>(byte));
}

} // namespace

PACTIO_EXPORT(PACTIO_MANIFEST_HEAD
              R"("id":"later","version":"1.0.0","license":"MIT OR Apache-2.0","description":"one byte, by a thread",)"
              R"("schemes":["later"],"check":"later:100000?fill=7",)"
              R"("options":[{"name":"fill","type":"integer","help":"the byte","default":"0","least":"0","most":"255"}]})",
              pactio::init, pactio::open<open_later>);
