#include "uring.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

namespace aoe {

namespace {

constexpr uint32_t kEntries = 256;

}  // namespace

std::unique_ptr<Uring> Uring::Open(uint32_t request_count, int event_fd) {
  io_uring_params params{};
  params.flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
  params.cq_entries = std::max(kEntries, 2 * request_count);
  io_uring ring;
  if (io_uring_queue_init_params(kEntries, &ring, &params) < 0) return nullptr;
  std::unique_ptr<Uring> uring(new Uring(ring, event_fd));
  if (io_uring_register_eventfd(&uring->ring_, event_fd) < 0) return nullptr;
  // What cannot be started without blocking occupies a kernel thread. The kernel's own bound of a
  // few is shared by all files: one file that hangs would hold up the others.
  uint32_t threads[2] = {request_count, 0};
  io_uring_register_iowq_max_workers(&uring->ring_, threads);
  return uring;
}

bool Uring::Queue(Operation* operation) {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  if (entry == nullptr) {
    io_uring_submit(&ring_);
    entry = io_uring_get_sqe(&ring_);
  }
  if (entry == nullptr) return false;
  std::byte* data = operation->data + operation->done;
  const auto left = static_cast<unsigned>(operation->length - operation->done);
  const auto offset = static_cast<uint64_t>(operation->offset) + operation->done;
  if (operation->op == FileOp::kRead) {
    io_uring_prep_read(entry, operation->fd, data, left, offset);
  } else {
    io_uring_prep_write(entry, operation->fd, data, left, offset);
  }
  io_uring_sqe_set_data(entry, operation);
  in_flight_++;
  return true;
}

// The kernel may be short of memory: then the event loop comes back to try again.
void Uring::Submit() {
  if (io_uring_sq_ready(&ring_) == 0) return;
  if (io_uring_submit(&ring_) >= 0) return;
  eventfd_write(event_fd_, 1);
}

Uring::Taken Uring::Take(Operation** operation) {
  io_uring_cqe* entry = nullptr;
  while (io_uring_peek_cqe(&ring_, &entry) == 0) {
    auto* ended = static_cast<Operation*>(io_uring_cqe_get_data(entry));
    const int32_t moved = entry->res;
    io_uring_cqe_seen(&ring_, entry);
    in_flight_--;
    *operation = ended;
    if (moved > 0) ended->done += static_cast<size_t>(moved);
    // What may block takes a thread of the kernel's, and is cancelled when there is none to be had.
    if (moved == -ECANCELED) return Taken::kRefused;
    const bool again = moved == -EINTR || moved == -EAGAIN || moved > 0;
    if (again && ended->done < ended->length) {
      if (Queue(ended)) continue;
      return Taken::kRefused;
    }
    ended->error = moved < 0 ? -moved : moved == 0 ? EIO : 0;
    return Taken::kDone;
  }
  return Taken::kNone;
}

}  // namespace aoe
