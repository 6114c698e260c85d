// Runs a function on a worker thread and settles a promise with the number that it returns.
#pragma once

#include <napi.h>

#include <functional>
#include <initializer_list>
#include <vector>

namespace aoe::cas {

class Task final : public Napi::AsyncWorker {
 public:
  // Keeps `kept` alive until `work` has returned.
  static Napi::Value Run(Napi::Env env, std::initializer_list<Napi::Value> kept,
                         std::function<double()> work) {
    auto* task = new Task(env, std::move(work));
    for (const Napi::Value& value : kept) {
      task->kept_.push_back(Napi::Persistent(value.As<Napi::Object>()));
    }
    Napi::Promise promise = task->deferred_.Promise();
    task->Queue();
    return promise;
  }

 private:
  Task(Napi::Env env, std::function<double()> work)
      : AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), work_(std::move(work)) {}

  void Execute() override { result_ = work_(); }
  void OnOK() override { deferred_.Resolve(Napi::Number::New(Env(), result_)); }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

  Napi::Promise::Deferred deferred_;
  std::function<double()> work_;
  std::vector<Napi::ObjectReference> kept_;
  double result_ = 0;
};

}  // namespace aoe::cas
