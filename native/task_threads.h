// Threads for the blocking work of one JavaScript object, so that it waits for nobody else's.
//
// Run() has a function called by one of at most `threads_max` threads, and returns a promise of the
// number that it returns. Threads are started when they are needed; when the system has none to
// give, those that are there do the work, and without any the caller. All but one end when they have
// nothing to do for a while.
//
// While work is in flight the owner is not collected, and the process does not end by itself. An
// environment that ends drops what has not begun and waits for what uses its memory (`kept`); what
// else is in flight goes on without it.
//
// Loop thread only.
#pragma once

#include <napi.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>

#include "addon_state.h"
#include "poll_watch.h"

namespace aoe {

class TaskThreads final : private ReadySource {
 public:
  // Throws into JavaScript when the system has no descriptor left; Run() must not be called then.
  TaskThreads(Napi::Object owner, uint32_t threads_max);
  ~TaskThreads() override;
  TaskThreads(const TaskThreads&) = delete;
  TaskThreads& operator=(const TaskThreads&) = delete;

  // Keeps `kept` alive until `work` has returned.
  Napi::Value Run(std::initializer_list<Napi::Value> kept, std::function<double()> work);

 private:
  struct Task;
  struct Queue;

  bool Ready() const override;
  void Settle();

  Napi::Env env_;
  Napi::ObjectReference owner_;
  std::shared_ptr<Queue> queue_;  // shared with the threads
  PollWatch* watch_ = nullptr;
  uint32_t in_flight_ = 0;
};

}  // namespace aoe
