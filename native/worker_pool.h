// Threads that run blocking file operations for one FileRing.
// Plain C++: no N-API, no libuv.
//
// A Run is a list of operations on one file, executed in order by one thread. At most
// `threads_per_file` runs of a file execute at a time, and there may be that many threads for
// each file, so a file that stalls never keeps a thread from another one.
//
// A first thread is started by StartThread(), others when they are first needed. When the system has
// none to give, those that are there do the work. All end in the destructor, which waits for all runs.
// Completion is signalled by writing to `event_fd`; TakeDone() collects.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

namespace aoe {

enum class FileOp : int32_t { kRead = 0, kWrite = 1, kFlush = 2, kTrim = 3 };

// One operation on a file. `done` counts bytes already moved. A flush fails if the file has lost
// its name or is shorter than `offset`.
struct Operation {
  FileOp op;
  int fd;
  int32_t file;
  std::byte* data;
  size_t length;
  size_t done;
  off_t offset;
  int error;  // errno, 0 = success
};

// Runs `operation` to its end with blocking system calls and sets its error.
void Execute(Operation* operation);

class WorkerPool {
 public:
  WorkerPool(int event_fd, uint32_t threads_per_file)
      : event_fd_(event_fd), threads_per_file_(threads_per_file) {}
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Returns 0 or an errno. Must have succeeded once before Submit().
  int StartThread();

  // Takes operations of one file; they belong to the pool until TakeDone() returns them.
  void Submit(int32_t file, std::vector<Operation*> run);

  // Moves finished operations to `done`.
  void TakeDone(std::vector<Operation*>* done);
  bool HasDone() const { return has_done_.load(std::memory_order_acquire); }

 private:
  struct Lane {
    std::deque<std::vector<Operation*>> waiting;
    uint32_t scheduled = 0;  // entries in runnable_; each will take one waiting run
    uint32_t running = 0;
  };

  void Work();
  void Schedule(Lane* lane);
  bool NextRun(std::vector<Operation*>* run, Lane** lane);

  const int event_fd_;
  const uint32_t threads_per_file_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::vector<std::unique_ptr<Lane>> lanes_;  // by file number
  std::deque<Lane*> runnable_;  // one entry for each run that may start
  std::vector<Operation*> done_;
  std::atomic<bool> has_done_ = false;
  std::vector<pthread_t> threads_;
  uint32_t idle_ = 0;
  bool ending_ = false;
};

}  // namespace aoe
