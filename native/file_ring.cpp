#include "file_ring.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "file_system.h"

namespace aoe {

namespace {

constexpr uint32_t kRowLength = 8;

// Disks profit from depth. A thread has all reads of a run under way at once, which costs half of what
// a thread for each of them does.
constexpr uint32_t kThreadsSideBySide = 16;
constexpr size_t kReadsPerRun = 8;

// Buffered writes of one file serialise on its inode lock, so a second thread only lets a flush run
// beside them.
constexpr uint32_t kThreadsInOrder = 2;
constexpr size_t kUnlimited = SIZE_MAX;

template <typename T>
T* Elements(Napi::Object options, const char* name) {
  return options.Get(name).As<Napi::TypedArrayOf<T>>().Data();
}

}  // namespace

void FileRing::Register(Napi::Env env, Napi::Object exports) {
  exports.Set("FileRing", DefineClass(env, "FileRing",
                                      {
                                          InstanceMethod<&FileRing::RegisterMemory>("registerMemory"),
                                          InstanceMethod<&FileRing::UnregisterMemory>(
                                              "unregisterMemory"),
                                          InstanceMethod<&FileRing::AddFile>("addFile"),
                                          InstanceMethod<&FileRing::Kick>("kick"),
                                          InstanceMethod<&FileRing::Reap>("reap"),
                                          InstanceMethod<&FileRing::Close>("close"),
                                          InstanceMethod<&FileRing::Abandon>("abandon"),
                                      }));
}

FileRing::FileRing(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Napi::Env env = info.Env();
  auto options = info[0].As<Napi::Object>();
  const uint32_t request_count = options.Get("requestCount").As<Napi::Number>();
  operations_ = std::make_unique<std::vector<Operation>>(request_count);
  rows_ = Elements<int32_t>(options, "rows");
  offsets_ = Elements<double>(options, "offsets");
  completions_ = Elements<int32_t>(options, "completions");
  kept_alive_ = Napi::Persistent(options);
  buffers_ = Napi::Persistent(Napi::Array::New(env).As<Napi::Object>());
  event_fd_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_fd_.is_open()) {
    ThrowSystemError(env, {errno, "eventfd"});
    return;
  }
  if (options.Get("uring").As<Napi::Boolean>()) {
    uring_ = Uring::Open(request_count, event_fd_.get());
  }
  pool_ = std::make_unique<WorkerPool>(event_fd_.get());
  if (const int error = pool_->StartThread()) {
    ThrowSystemError(env, {error, "pthread_create"});
    return;
  }
  info.This().As<Napi::Object>().Set("engine",
                                     Napi::String::New(env, uring_ != nullptr ? "io_uring" : "threads"));
  watch_ = PollWatch::Start(env, event_fd_.get(), info[1].As<Napi::Function>());
  if (watch_ != nullptr) AddonState::Of(env).sources.push_back(this);
}

FileRing::~FileRing() {
  if (watch_ == nullptr) return;
  Detach();
  LeakEngines();
}

void FileRing::Detach() {
  AddonState::Of(Env()).Remove(this);
  watch_->Stop();
  watch_ = nullptr;
}

void FileRing::FinishEngines() {
  while (uring_ != nullptr && uring_->in_flight() > 0) {
    uring_->Wait();
    completion_count_ = 0;
    CollectUring();
  }
  // Last: it may have got what did not fit into the ring again.
  pool_.reset();
  uring_.reset();
}

void FileRing::LeakEngines() {
  static_cast<void>(pool_.release());
  static_cast<void>(uring_.release());
  static_cast<void>(operations_.release());
  event_fd_.Release();
}

Napi::Value FileRing::RegisterMemory(const Napi::CallbackInfo& info) {
  auto buffer = info[0].As<Napi::ArrayBuffer>();
  const auto free = std::find(regions_.begin(), regions_.end(), nullptr);
  const auto region = static_cast<uint32_t>(free - regions_.begin());
  if (free == regions_.end()) regions_.push_back(nullptr);
  regions_[region] = static_cast<std::byte*>(buffer.Data());
  buffers_.Set(region, buffer);
  return Napi::Number::New(info.Env(), region);
}

void FileRing::UnregisterMemory(const Napi::CallbackInfo& info) {
  const uint32_t region = info[0].As<Napi::Number>();
  if (watch_ == nullptr) return;
  regions_[region] = nullptr;
  buffers_.Set(region, info.Env().Undefined());
}

Napi::Value FileRing::AddFile(const Napi::CallbackInfo& info) {
  const int32_t fd = info[0].As<Napi::Number>();
  const int32_t mode = info[1].As<Napi::Number>();
  if (watch_ == nullptr) return Napi::Number::New(info.Env(), 0);
  KeepAccessTime(fd);
  File file{.fd = fd, .mode = static_cast<FileMode>(mode), .remote = IsRemoteFile(fd)};
  // Elsewhere, or past the page cache, a thread cannot begin a read and go on to the next.
  const bool can_begin = file.mode == FileMode::kBuffered && !file.remote;
  file.side_by_side.lane = pool_->AddLane(kThreadsSideBySide, can_begin ? kReadsPerRun : 1);
  file.in_order.lane = pool_->AddLane(kThreadsInOrder, kUnlimited);
  files_.push_back(std::move(file));
  return Napi::Number::New(info.Env(), static_cast<double>(files_.size() - 1));
}

Napi::Value FileRing::Kick(const Napi::CallbackInfo& info) {
  const uint32_t count = info[0].As<Napi::Number>();
  completion_count_ = 0;
  if (watch_ == nullptr) return Napi::Number::New(info.Env(), 0);
  const auto now = CachedStretches::Clock::now();
  for (uint32_t i = 0; i < count; i++) {
    const int32_t* row = rows_ + static_cast<size_t>(i) * kRowLength;
    const File& file = files_[static_cast<size_t>(row[1])];
    Operation* operation = &(*operations_)[static_cast<size_t>(row[7])];
    *operation = {
        .op = static_cast<FileOp>(row[0]),
        .fd = file.fd,
        .file = row[1],
        .data = regions_[static_cast<size_t>(row[2])] + row[3],
        .length = static_cast<size_t>(row[4]),
        .offset = static_cast<off_t>(offsets_[i]),
    };
    if (TryNow(operation, file, now)) {
      Report(operation);
    } else {
      StartLater(operation, row);
    }
  }
  SubmitToThreads();
  if (uring_ != nullptr) uring_->Submit();
  return Napi::Number::New(info.Env(), completion_count_);
}

// Does the operation now if that cannot block. Returns false when it must be started instead.
bool FileRing::TryNow(Operation* operation, const File& file,
                      CachedStretches::Clock::time_point now) {
  if (file.mode == FileMode::kMemory) {
    // Nothing in memory becomes more durable by a flush.
    if (operation->op != FileOp::kFlush) Execute(operation);
    return true;
  }
  if (file.mode == FileMode::kDirect || file.remote || operation->op != FileOp::kRead) return false;
  return TryCached(operation, now);
}

// Reads what the page cache has. Returns false when not all of it is there.
bool FileRing::TryCached(Operation* operation, CachedStretches::Clock::time_point now) {
  const int32_t file = operation->file;
  const int fd = operation->fd;
  const off_t offset = operation->offset;
  const size_t length = operation->length;
  // While something waits for a disk, that may be for one that hangs: nothing is taken for granted.
  const bool had = waiting_count_ == 0 && stretches_.Had(file, fd, offset, length, now);
  if (!had && !MayBeCached(fd, length, offset)) return false;
  if (!TryRead(fd, operation->data, length, offset)) {
    stretches_.Missed(file, offset);
    return false;
  }
  operation->done = length;
  return true;
}

void FileRing::StartLater(Operation* operation, const int32_t* row) {
  waiting_count_++;
  File& file = files_[static_cast<size_t>(operation->file)];
  if (operation->op == FileOp::kWrite) {
    std::byte* stash = regions_[static_cast<size_t>(row[5])] + row[6];
    if (stash != operation->data) std::memcpy(stash, operation->data, operation->length);
    operation->data = stash;
  }
  const bool direct = file.mode == FileMode::kDirect && (operation->op == FileOp::kRead ||
                                                         operation->op == FileOp::kWrite);
  // Without an io_uring, or room in it, the worker pool does its part.
  if (direct && !file.remote && uring_ != nullptr && uring_->Queue(operation)) return;
  const bool ordered = !direct && operation->op != FileOp::kRead;
  HandOver(operation, ordered ? &file.in_order : &file.side_by_side);
}

void FileRing::HandOver(Operation* operation, Outgoing* outgoing) {
  if (outgoing->operations.empty()) outgoing_.push_back(outgoing);
  outgoing->operations.push_back(operation);
}

void FileRing::SubmitToThreads() {
  for (Outgoing* outgoing : outgoing_) {
    pool_->Submit(outgoing->lane, outgoing->operations);
    outgoing->operations.clear();
  }
  outgoing_.clear();
}

void FileRing::CollectUring() {
  Operation* operation = nullptr;
  for (;;) {
    const Uring::Taken taken = uring_->Take(&operation);
    if (taken == Uring::Taken::kNone) break;
    if (taken == Uring::Taken::kDone) {
      Report(operation);
    } else {
      HandOver(operation, &files_[static_cast<size_t>(operation->file)].side_by_side);
    }
  }
  uring_->Submit();
  SubmitToThreads();
}

Napi::Value FileRing::Reap(const Napi::CallbackInfo& info) {
  completion_count_ = 0;
  if (watch_ == nullptr) return Napi::Number::New(info.Env(), 0);
  // The counter is cleared before looking, so that what ends meanwhile signals again.
  uint64_t signals = 0;
  while (read(event_fd_.get(), &signals, sizeof signals) < 0 && errno == EINTR) {
  }
  if (uring_ != nullptr) CollectUring();
  pool_->TakeDone(&done_);
  for (const Operation* operation : done_) Report(operation);
  done_.clear();
  waiting_count_ -= completion_count_;
  return Napi::Number::New(info.Env(), completion_count_);
}

void FileRing::Report(const Operation* operation) {
  completions_[2 * completion_count_] = static_cast<int32_t>(operation - operations_->data());
  completions_[2 * completion_count_ + 1] = operation->error;
  completion_count_++;
}

bool FileRing::Ready() const {
  return pool_->HasDone() || (uring_ != nullptr && uring_->HasDone());
}

void FileRing::Close(const Napi::CallbackInfo&) {
  if (watch_ == nullptr) return;
  Detach();
  FinishEngines();
  kept_alive_.Reset();
  buffers_.Reset();
}

void FileRing::Abandon(const Napi::CallbackInfo&) {
  if (watch_ == nullptr) return;
  Detach();
  LeakEngines();
}

}  // namespace aoe
