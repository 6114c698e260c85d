#include "worker_pool.h"

#include <linux/fs.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>

#include "file_system.h"

namespace aoe {

namespace {

// The kernel's struct sched_attr in its first version. Its header and glibc's <sched.h> exclude each other.
struct SchedulingAttributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime_ns;
  uint64_t deadline_ns;
  uint64_t period_ns;
};

constexpr uint64_t kSliceNs = 100'000;  // the shortest that there is

// Asks for short turns, so that the calling thread gets its own soon after it was woken (Linux 6.12, and
// without effect before): the disk then works while the event loop goes on. Its share of the processor
// stays what it is.
void TakeShortTurns() {
  SchedulingAttributes attributes{};
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) < 0) return;
  if (attributes.policy != SCHED_OTHER) return;
  attributes.runtime_ns = kSliceNs;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
}

int Read(Operation* operation) {
  const int error = ReadOn(operation->fd, operation->data, operation->length, operation->offset,
                           &operation->done);
  if (error != 0) return error;
  return operation->done < operation->length ? EIO : 0;  // the file is shorter than the device it backs
}

// A flush of a file that was removed or cut short keeps nothing safe: what was written to it will
// not be there when the file is opened by its name again. Of a device that has become smaller the
// kernel drops what lies beyond the end, and says nothing.
int CheckIsWhole(int fd, uint64_t least_size) {
  FileLook look;
  if (const int error = LookAt(fd, Freshness::kAsked, &look)) return error;
  uint64_t size = look.size_bytes;
  if (S_ISBLK(look.mode)) {
    if (ioctl(fd, BLKGETSIZE64, &size) < 0) return errno;
  } else if (look.link_count == 0) {
    return ENOENT;
  }
  return size < least_size ? EIO : 0;
}

int Flush(const Operation* operation) {
  if (const int error = FlushData(operation->fd)) return error;
  return CheckIsWhole(operation->fd, static_cast<uint64_t>(operation->offset));
}

// Reads what is cached. The kernel starts to read the rest, so that the disk has all of it at once.
void Begin(const std::vector<Operation*>& run) {
  for (Operation* operation : run) {
    if (operation->op != FileOp::kRead) continue;
    const iovec vector{.iov_base = operation->data, .iov_len = operation->length};
    const ssize_t moved = preadv2(operation->fd, &vector, 1, operation->offset, RWF_NOWAIT);
    if (moved > 0) operation->done = static_cast<size_t>(moved);
  }
}

}  // namespace

void Execute(Operation* operation) {
  switch (operation->op) {
    case FileOp::kRead:
      operation->error = Read(operation);
      return;
    case FileOp::kWrite:
      operation->error = WriteOn(operation->fd, operation->data, operation->length,
                                 operation->offset, &operation->done);
      return;
    case FileOp::kFlush:
      operation->error = Flush(operation);
      return;
    case FileOp::kTrim:
      operation->error =
          PunchHole(operation->fd, operation->offset, static_cast<off_t>(operation->length));
      return;
  }
}

WorkerPool::~WorkerPool() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  work_.notify_all();
  for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
}

// Not std::thread, which ends a program that has no thread to give.
int WorkerPool::StartThread() {
  const auto work = [](void* pool) -> void* {
    static_cast<WorkerPool*>(pool)->Work();
    return nullptr;
  };
  pthread_t thread{};
  const int error = pthread_create(&thread, nullptr, work, this);
  if (error == 0) threads_.push_back(thread);
  return error;
}

size_t WorkerPool::AddLane(uint32_t width, size_t run_max) {
  std::lock_guard lock(mutex_);
  lanes_.push_back({.width = width, .run_max = run_max});
  return lanes_.size() - 1;
}

void WorkerPool::Submit(size_t lane, const std::vector<Operation*>& operations) {
  const std::span<Operation* const> all(operations);
  size_t run_count = 0;
  {
    std::lock_guard lock(mutex_);
    Lane* to = &lanes_[lane];
    for (size_t begin = 0; begin < all.size(); begin += to->run_max, run_count++) {
      const auto run = all.subspan(begin, std::min(to->run_max, all.size() - begin));
      to->waiting.emplace_back(run.begin(), run.end());
      Schedule(to);
      if (threads_.size() < busy_ + runnable_.size()) StartThread();
    }
  }
  while (run_count-- > 0) work_.notify_one();
}

void WorkerPool::Schedule(Lane* lane) {
  if (lane->scheduled == lane->waiting.size()) return;
  if (lane->scheduled + lane->running == lane->width) return;
  lane->scheduled++;
  runnable_.push_back(lane);
}

bool WorkerPool::NextRun(Run* run, Lane** lane) {
  std::unique_lock lock(mutex_);
  work_.wait(lock, [this] { return !runnable_.empty() || ending_; });
  if (runnable_.empty()) return false;
  *lane = runnable_.front();
  runnable_.pop_front();
  *run = std::move((*lane)->waiting.front());
  (*lane)->waiting.pop_front();
  (*lane)->scheduled--;
  (*lane)->running++;
  busy_++;
  return true;
}

void WorkerPool::Work() {
  TakeShortTurns();
  Run run;
  Lane* lane = nullptr;
  while (NextRun(&run, &lane)) {
    if (run.size() > 1) Begin(run);
    for (Operation* operation : run) Execute(operation);
    bool first = false;
    {
      std::lock_guard lock(mutex_);
      first = done_.empty();
      done_.insert(done_.end(), run.begin(), run.end());
      has_done_.store(true, std::memory_order_release);
      lane->running--;
      busy_--;
      Schedule(lane);
    }
    // Who takes it takes all that is done.
    if (first) eventfd_write(event_fd_, 1);
  }
}

void WorkerPool::TakeDone(std::vector<Operation*>* done) {
  std::lock_guard lock(mutex_);
  done->insert(done->end(), done_.begin(), done_.end());
  done_.clear();
  has_done_.store(false, std::memory_order_release);
}

}  // namespace aoe
