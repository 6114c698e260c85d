// Tells JavaScript that something about the network interfaces has changed.
//
//   new InterfaceWatch(onChange)   onChange() after any link message of the kernel
//   .drain()                       forgets the messages so far; call it before looking
//   .close()                       idempotent
//
//   readInterface(name)            {index, mtu, mac, up, connected} of an interface, by any of its
//                                  names; undefined when there is none
//
// What has changed is not told: messages can be lost, so a listener looks at the whole state.
// The watch does not keep the process alive.
#pragma once

#include <napi.h>

#include "poll_watch.h"
#include "unique_fd.h"

namespace aoe {

class InterfaceWatch final : public Napi::ObjectWrap<InterfaceWatch> {
 public:
  static void Register(Napi::Env env, Napi::Object exports);

  explicit InterfaceWatch(const Napi::CallbackInfo& info);
  ~InterfaceWatch() override;

 private:
  void Drain(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void Stop();

  UniqueFd fd_;
  PollWatch* watch_ = nullptr;
};

}  // namespace aoe
