#include "task_threads.h"

#include <pthread.h>
#include <sys/eventfd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "system_error.h"
#include "unique_fd.h"

namespace aoe {

namespace {

constexpr std::chrono::seconds kIdleMax{10};

}  // namespace

struct TaskThreads::Task {
  std::function<double()> work;
  std::vector<Napi::ObjectReference> kept;
  napi_deferred deferred = nullptr;
  double result = 0;
};

// Lives as long as its last thread, which may outlive the environment.
struct TaskThreads::Queue : std::enable_shared_from_this<Queue> {
  explicit Queue(uint32_t most) : threads_max(most) {}

  void Submit(std::unique_ptr<Task> task);
  void StartThread();
  std::unique_ptr<Task> Next();
  std::unique_ptr<Task> Take();
  void Work();
  void Do(std::unique_ptr<Task> task);
  void End();

  const uint32_t threads_max;
  const UniqueFd done_fd{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::mutex mutex;
  std::condition_variable work;
  std::condition_variable quiet;
  std::deque<std::unique_ptr<Task>> waiting;
  std::vector<std::unique_ptr<Task>> done;
  std::atomic<bool> has_done = false;
  uint32_t threads = 0;
  uint32_t idle = 0;
  uint32_t using_memory = 0;  // tasks begun that keep something
  bool ending = false;
};

void TaskThreads::Queue::Submit(std::unique_ptr<Task> task) {
  std::unique_ptr<Task> left_to_caller;
  {
    std::lock_guard lock(mutex);
    waiting.push_back(std::move(task));
    if (idle < waiting.size() && threads < threads_max) StartThread();
    if (threads == 0) left_to_caller = Take();
  }
  if (left_to_caller != nullptr) {
    Do(std::move(left_to_caller));
  } else {
    work.notify_one();
  }
}

// With the mutex locked. The system may have none to give.
void TaskThreads::Queue::StartThread() {
  const auto run = [](void* self) -> void* {
    const std::unique_ptr<std::shared_ptr<Queue>> queue(static_cast<std::shared_ptr<Queue>*>(self));
    (*queue)->Work();
    return nullptr;
  };
  auto self = std::make_unique<std::shared_ptr<Queue>>(shared_from_this());
  pthread_t thread{};
  if (pthread_create(&thread, nullptr, run, self.get()) != 0) return;
  static_cast<void>(self.release());  // the thread has it
  pthread_detach(thread);
  threads++;
}

// Returns null when the thread is to end.
std::unique_ptr<TaskThreads::Task> TaskThreads::Queue::Next() {
  std::unique_lock lock(mutex);
  idle++;
  bool found = false;
  do {
    found = work.wait_for(lock, kIdleMax, [this] { return !waiting.empty() || ending; });
  } while (!found && threads == 1);
  idle--;
  if (!found || ending) {
    threads--;
    return nullptr;
  }
  return Take();
}

// With the mutex locked.
std::unique_ptr<TaskThreads::Task> TaskThreads::Queue::Take() {
  std::unique_ptr<Task> task = std::move(waiting.front());
  waiting.pop_front();
  if (!task->kept.empty()) using_memory++;
  return task;
}

void TaskThreads::Queue::Work() {
  while (std::unique_ptr<Task> task = Next()) Do(std::move(task));
}

void TaskThreads::Queue::Do(std::unique_ptr<Task> task) {
  task->result = task->work();
  std::lock_guard lock(mutex);
  if (!task->kept.empty() && --using_memory == 0) quiet.notify_all();
  done.push_back(std::move(task));
  has_done.store(true, std::memory_order_release);
  eventfd_write(done_fd.get(), 1);
}

void TaskThreads::Queue::End() {
  std::unique_lock lock(mutex);
  ending = true;
  work.notify_all();
  quiet.wait(lock, [this] { return using_memory == 0; });
  // Here, because what they keep can be let go only by the loop's thread.
  waiting.clear();
  done.clear();
}

TaskThreads::TaskThreads(Napi::Object owner, uint32_t threads_max)
    : env_(owner.Env()), owner_(Napi::Weak(owner)), queue_(std::make_shared<Queue>(threads_max)) {
  if (!queue_->done_fd.is_open()) {
    ThrowSystemError(env_, {errno, "eventfd"});
    return;
  }
  const auto settle = [this](const Napi::CallbackInfo&) { Settle(); };
  watch_ = PollWatch::Start(env_, queue_->done_fd.get(), Napi::Function::New(env_, settle));
  if (watch_ == nullptr) return;
  watch_->Ref(false);
  AddonState::Of(env_).sources.push_back(this);
}

TaskThreads::~TaskThreads() {
  queue_->End();
  if (watch_ == nullptr) return;
  AddonState::Of(env_).Remove(this);
  watch_->Stop();
}

Napi::Value TaskThreads::Run(std::initializer_list<Napi::Value> kept, std::function<double()> work) {
  auto task = std::make_unique<Task>();
  task->work = std::move(work);
  for (const Napi::Value& value : kept) {
    task->kept.push_back(Napi::Persistent(value.As<Napi::Object>()));
  }
  napi_value promise = nullptr;
  napi_create_promise(env_, &task->deferred, &promise);
  if (in_flight_++ == 0) {
    owner_.Ref();
    watch_->Ref(true);
  }
  queue_->Submit(std::move(task));
  return {env_, promise};
}

bool TaskThreads::Ready() const { return queue_->has_done.load(std::memory_order_acquire); }

void TaskThreads::Settle() {
  eventfd_t signals = 0;
  eventfd_read(queue_->done_fd.get(), &signals);
  std::vector<std::unique_ptr<Task>> done;
  {
    std::lock_guard lock(queue_->mutex);
    done.swap(queue_->done);
    queue_->has_done.store(false, std::memory_order_release);
  }
  for (const auto& task : done) {
    // Fails in an environment that ends. Not by Napi::Promise::Deferred, which would be fatal then.
    napi_resolve_deferred(env_, task->deferred, Napi::Number::New(env_, task->result));
  }
  in_flight_ -= static_cast<uint32_t>(done.size());
  if (done.empty() || in_flight_ > 0) return;
  watch_->Ref(false);
  owner_.Unref();
}

}  // namespace aoe
