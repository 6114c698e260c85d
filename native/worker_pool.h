// Threads that run blocking file operations for one FileRing.
// Plain C++: no N-API, no libuv.
//
// A run is a list of operations, executed in order by one thread. They are submitted to lanes, each of
// which has its own length of a run, and executes at most so many at a time as it is wide. There is a
// thread for each run that may execute, so a lane that stalls never keeps a thread from another one.
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
#include <mutex>
#include <vector>

namespace aoe {

enum class FileOp : int32_t { kRead = 0, kWrite = 1, kFlush = 2, kTrim = 3 };

// One operation on a file. `done` counts bytes already moved. A flush fails if the file has lost
// its name or is shorter than `offset`.
struct Operation {
  FileOp op;
  int fd;
  int32_t file;  // the caller's number of it
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
  explicit WorkerPool(int event_fd) : event_fd_(event_fd) {}
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Returns 0 or an errno. Must have succeeded once before Submit().
  int StartThread();

  // Returns the number of a lane that executes `width` runs at a time, of at most `run_max` operations.
  size_t AddLane(uint32_t width, size_t run_max);

  // Takes operations, as many runs as are needed for them; they belong to the pool until TakeDone()
  // returns them.
  void Submit(size_t lane, const std::vector<Operation*>& operations);

  // Moves finished operations to `done`.
  void TakeDone(std::vector<Operation*>* done);
  bool HasDone() const { return has_done_.load(std::memory_order_acquire); }

 private:
  using Run = std::vector<Operation*>;

  struct Lane {
    uint32_t width;
    size_t run_max;
    std::deque<Run> waiting;
    uint32_t scheduled = 0;  // entries in runnable_; each will take one waiting run
    uint32_t running = 0;
  };

  void Work();
  void Schedule(Lane* lane);
  bool NextRun(Run* run, Lane** lane);

  const int event_fd_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<Lane> lanes_;  // they stay where they are
  std::deque<Lane*> runnable_;  // one entry for each run that may start
  std::vector<Operation*> done_;
  std::atomic<bool> has_done_ = false;
  std::vector<pthread_t> threads_;
  size_t busy_ = 0;  // threads that execute a run
  bool ending_ = false;
};

}  // namespace aoe
