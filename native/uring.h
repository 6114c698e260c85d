// Reads and writes of one FileRing by io_uring, for direct I/O.
// Plain C++: no N-API, no libuv.
//
// An operation that was queued belongs to the ring until Take() returns it. What moved only a part
// of its bytes is queued again for the rest. Completion is signalled by writing to `event_fd`.
//
// Threading: one thread at a time.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <memory>

#include "worker_pool.h"

namespace aoe {

class Uring {
 public:
  // Returns null where io_uring is missing or forbidden (sysctl, seccomp).
  static std::unique_ptr<Uring> Open(uint32_t request_count, int event_fd);
  // Nothing may be in flight.
  ~Uring() { io_uring_queue_exit(&ring_); }
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  // Returns false when there is no room.
  bool Queue(Operation* operation);
  // Starts what is queued.
  void Submit();
  // The same, and waits until something has ended.
  void Wait() { io_uring_submit_and_wait(&ring_, 1); }

  // kRefused: threads of ours must do the rest of it.
  enum class Taken { kNone, kDone, kRefused };
  // Takes what has ended, or cannot go on, and queues what can.
  Taken Take(Operation** operation);
  bool HasDone() const { return io_uring_cq_ready(&ring_) > 0; }

  uint32_t in_flight() const { return in_flight_; }

 private:
  Uring(const io_uring& ring, int event_fd) : ring_(ring), event_fd_(event_fd) {}

  io_uring ring_;
  const int event_fd_;
  uint32_t in_flight_ = 0;
};

}  // namespace aoe
