// Batched file I/O as a JavaScript object: rows in, completions out.
//
//   new FileRing({requestCount, rows, offsets, completions, uring}, onCompletions)
//   .engine               "io_uring" or "threads"
//   .registerMemory(arrayBuffer)  returns a region number; the buffer is kept alive until
//                         unregisterMemory(region), after which the number is given out again
//   .addFile(fd, mode)    returns a file number; mode: see FileMode. The caller keeps owning fd
//                         and closes it only after its last operation completed
//   .kick(rowCount)       runs or starts the first rowCount rows. Returns how many completions
//                         of operations that ended at once it wrote
//   .reap()               writes completions of operations that ended since; returns how many
//   .close()              waits for operations in flight, drops their completions; idempotent
//   .abandon()            closes without waiting, for storage that hangs. What is in flight may
//                         still happen; its memory is never freed. An environment that ends
//                         without close() does the same
//
// Rows: Int32Array, 8 a row: op, file, region, memory offset, length, stash region, stash offset,
// request; offsets: Float64Array, the file offset of each row, for a flush the size that the file
// must still have; completions: Int32Array pairs of
// (request, errno), room for requestCount. A request has at most one operation in flight, and
// operations of one kick() do not overlap in the file.
//
// Memory: write data outside the stash may be reused when kick() returns: an operation that did
// not end at once was copied to its stash. All other memory must stay put until completion.
//
// What never blocks is done at once on the calling thread: it is twice as fast as handing it
// over. What might block goes to threads, but for direct I/O, which goes to io_uring where that is not
// forbidden: to start anything else there may block, too. All that concerns a file which is served
// elsewhere might block.
//
// What one kick() hands to threads of one file is done in order, but for reads and direct I/O, which
// are done side by side.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "addon_state.h"
#include "cached_stretches.h"
#include "poll_watch.h"
#include "system_error.h"
#include "unique_fd.h"
#include "uring.h"
#include "worker_pool.h"

namespace aoe {

enum class FileMode : int32_t {
  kMemory = 0,    // tmpfs or memfd: reads and writes never block
  kBuffered = 1,  // page cache: reads of cached pages never block
  kDirect = 2,    // O_DIRECT: everything may block
};

class FileRing final : public Napi::ObjectWrap<FileRing>, private ReadySource {
 public:
  static void Register(Napi::Env env, Napi::Object exports);

  explicit FileRing(const Napi::CallbackInfo& info);
  ~FileRing() override;

 private:
  // What is handed to a lane of the worker pool at the end of a call.
  struct Outgoing {
    size_t lane;
    std::vector<Operation*> operations;
  };

  struct File {
    int fd;
    FileMode mode;
    bool remote;  // any operation may block, a read of what is cached too
    Outgoing side_by_side;
    Outgoing in_order;
  };

  Napi::Value RegisterMemory(const Napi::CallbackInfo& info);
  void UnregisterMemory(const Napi::CallbackInfo& info);
  Napi::Value AddFile(const Napi::CallbackInfo& info);
  Napi::Value Kick(const Napi::CallbackInfo& info);
  Napi::Value Reap(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void Abandon(const Napi::CallbackInfo& info);

  bool Ready() const override;
  void Detach();
  void FinishEngines();
  void LeakEngines();
  bool TryNow(Operation* operation, const File& file, CachedStretches::Clock::time_point now);
  bool TryCached(Operation* operation, CachedStretches::Clock::time_point now);
  void StartLater(Operation* operation, const int32_t* row);
  void HandOver(Operation* operation, Outgoing* outgoing);
  void SubmitToThreads();
  void CollectUring();
  void Report(const Operation* operation);

  std::unique_ptr<std::vector<Operation>> operations_;  // by request
  std::vector<File> files_;
  std::vector<std::byte*> regions_;
  std::vector<Outgoing*> outgoing_;  // those that have operations
  std::vector<Operation*> done_;
  Napi::ObjectReference kept_alive_;
  Napi::ObjectReference buffers_;
  const int32_t* rows_ = nullptr;
  const double* offsets_ = nullptr;
  int32_t* completions_ = nullptr;
  uint32_t completion_count_ = 0;
  uint32_t waiting_count_ = 0;  // operations that were started and not reported
  CachedStretches stretches_;
  UniqueFd event_fd_;
  PollWatch* watch_ = nullptr;
  std::unique_ptr<WorkerPool> pool_;
  std::unique_ptr<Uring> uring_;
};

}  // namespace aoe
