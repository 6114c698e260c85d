#include "interface_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "network_interface.h"
#include "system_error.h"

namespace aoe {

namespace {

// Interfaces are asked for by it. It is kept: without a descriptor for one an interface that is there
// would pass for one that has gone.
const UniqueFd asking_fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));

// By what takes any name: an ioctl has modules looked for, of the name of an interface that is not there.
bool IsMissing(int fd, const std::string& name) {
  const int result = setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name.data(),
                                static_cast<socklen_t>(name.size()));
  return result < 0 && errno == ENODEV;
}

// Not from sysfs, which knows an interface by one name only, and may be that of another namespace.
Napi::Value ReadInterfaceNow(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = asking_fd.get();
  const std::string name = info[0].As<Napi::String>();
  NetworkInterface interface;
  if (IsMissing(fd, name) || ReadInterface(fd, name, &interface)) return env.Undefined();
  auto result = Napi::Object::New(env);
  result.Set("index", Napi::Number::New(env, interface.index));
  result.Set("mtu", Napi::Number::New(env, interface.mtu));
  result.Set("mac", Napi::Number::New(env, interface.mac_number()));
  result.Set("up", Napi::Boolean::New(env, interface.up));
  result.Set("connected", Napi::Boolean::New(env, interface.connected));
  return result;
}

}  // namespace

void InterfaceWatch::Register(Napi::Env env, Napi::Object exports) {
  exports.Set("InterfaceWatch", DefineClass(env, "InterfaceWatch",
                                            {
                                                InstanceMethod<&InterfaceWatch::Drain>("drain"),
                                                InstanceMethod<&InterfaceWatch::Close>("close"),
                                            }));
  exports.Set("readInterface", Napi::Function::New<ReadInterfaceNow>(env));
}

InterfaceWatch::InterfaceWatch(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Napi::Env env = info.Env();
  fd_ = UniqueFd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!fd_.is_open()) {
    ThrowSystemError(env, {errno, "socket(AF_NETLINK)"});
    return;
  }
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  if (bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) {
    ThrowSystemError(env, {errno, "bind(AF_NETLINK)"});
    return;
  }
  watch_ = PollWatch::Start(env, fd_.get(), info[0].As<Napi::Function>());
  if (watch_ != nullptr) watch_->Ref(false);
}

InterfaceWatch::~InterfaceWatch() { Stop(); }

// Reads and drops all messages; the callback calls it before it looks at the interfaces, so that
// a change after the look calls it again.
void InterfaceWatch::Drain(const Napi::CallbackInfo&) {
  std::array<char, 8192> message;
  while (watch_ != nullptr) {
    const ssize_t size = recv(fd_.get(), message.data(), message.size(), 0);
    // ENOBUFS says that messages were lost, which is no worse than having read them.
    if (size < 0 && errno != EINTR && errno != ENOBUFS) break;
  }
}

void InterfaceWatch::Close(const Napi::CallbackInfo&) { Stop(); }

void InterfaceWatch::Stop() {
  if (watch_ == nullptr) return;
  watch_->Stop();
  watch_ = nullptr;
}

}  // namespace aoe
