#include "packet_socket.h"

#include <array>
#include <chrono>
#include <cerrno>

namespace aoe {

namespace {

template <typename T>
T* Elements(Napi::Object options, const char* name) {
  return options.Get(name).As<Napi::TypedArrayOf<T>>().Data();
}

// Instructions come as four numbers each: code, jump if true, jump if false, operand.
std::vector<sock_filter> FilterOf(Napi::Uint32Array words) {
  std::vector<sock_filter> filter;
  for (size_t i = 0; i + 3 < words.ElementLength(); i += 4) {
    filter.push_back({static_cast<uint16_t>(words[i]), static_cast<uint8_t>(words[i + 1]),
                      static_cast<uint8_t>(words[i + 2]), words[i + 3]});
  }
  return filter;
}

}  // namespace

void PacketSocket::Register(Napi::Env env, Napi::Object exports) {
  exports.Set("PacketSocket",
              DefineClass(env, "PacketSocket",
                          {
                              InstanceMethod<&PacketSocket::Next>("next"),
                              InstanceMethod<&PacketSocket::Send>("send"),
                              InstanceMethod<&PacketSocket::Statistics>("statistics"),
                              InstanceMethod<&PacketSocket::TakeError>("takeError"),
                              InstanceMethod<&PacketSocket::Close>("close"),
                          }));
}

PacketSocket::PacketSocket(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  Napi::Env env = info.Env();
  auto options = info[0].As<Napi::Object>();
  const auto failure = ring_.Open({
      .interface = options.Get("interface").As<Napi::String>(),
      .frame_size_max = options.Get("frameSizeMax").As<Napi::Number>(),
      .ring_size = options.Get("ringSize").As<Napi::Number>(),
      .filter = FilterOf(options.Get("filter").As<Napi::Uint32Array>()),
  });
  if (failure) {
    ThrowSystemError(env, failure);
    return;
  }
  slab_ = static_cast<const std::byte*>(options.Get("slab").As<Napi::ArrayBuffer>().Data());
  received_ = Elements<int32_t>(options, "received");
  arrivals_ = Elements<double>(options, "arrivals");
  sent_ = reinterpret_cast<const SentFrame*>(Elements<int32_t>(options, "sent"));
  outcome_ = Elements<int32_t>(options, "outcome");
  sent_us_ = Elements<double>(options, "sentUs");
  kept_alive_ = Napi::Persistent(options);
  DescribeInterface(env, info.This().As<Napi::Object>());
  watch_ = PollWatch::Start(env, ring_.receive_fd(), info[1].As<Napi::Function>());
  if (watch_ != nullptr) AddonState::Of(env).sources.push_back(this);
}

PacketSocket::~PacketSocket() {
  if (watch_ == nullptr) return;
  AddonState::Of(Env()).Remove(this);
  watch_->Stop();
}

void PacketSocket::DescribeInterface(Napi::Env env, Napi::Object self) {
  const auto& interface = ring_.interface();
  auto buffer = Napi::ArrayBuffer::New(env, ring_.memory(), ring_.memory_size());
  ring_buffer_ = Napi::Persistent(buffer);
  self.Set("ring", buffer);
  self.Set("index", Napi::Number::New(env, interface.index));
  self.Set("mtu", Napi::Number::New(env, interface.mtu));
  self.Set("mac", Napi::Number::New(env, interface.mac_number()));
  self.Set("loopback", Napi::Boolean::New(env, ring_.is_loopback()));
}

Napi::Value PacketSocket::Next(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (watch_ == nullptr) return Napi::Number::New(env, 0);
  ring_.Release();
  SendRows(info[0].As<Napi::Number>());
  uint32_t count = TakeFrames();
  const double spin_us = info[1].As<Napi::Number>();
  if (count == 0 && spin_us > 0) {
    Spin(env, spin_us);
    count = TakeFrames();
  }
  return Napi::Number::New(env, count);
}

void PacketSocket::Send(const Napi::CallbackInfo& info) {
  if (watch_ != nullptr) SendRows(info[0].As<Napi::Number>());
}

void PacketSocket::SendRows(uint32_t count) {
  int error = 0;
  outcome_[0] = static_cast<int32_t>(ring_.Send(slab_, sent_, count, &error));
  outcome_[1] = error;
  if (count == 0) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  *sent_us_ = std::chrono::duration<double, std::micro>(now).count();
}

uint32_t PacketSocket::TakeFrames() {
  std::array<ReceivedFrame, kBatchFrames> frames;
  const uint32_t count = ring_.Receive(frames.data());
  for (uint32_t i = 0; i < count; i++) {
    received_[2 * i] = static_cast<int32_t>(frames[i].offset);
    received_[2 * i + 1] = static_cast<int32_t>(frames[i].size);
    arrivals_[i] = frames[i].arrival_us;
  }
  return count;
}

void PacketSocket::Spin(Napi::Env env, double spin_us) const {
  using Clock = std::chrono::steady_clock;
  const AddonState& state = AddonState::Of(env);
  const auto end = Clock::now() + std::chrono::nanoseconds(static_cast<int64_t>(spin_us * 1000));
  while (!state.AnyReady() && Clock::now() < end) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
}

Napi::Value PacketSocket::Statistics(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto statistics = ring_.ReadStatistics();
  auto result = Napi::Object::New(env);
  result.Set("received", Napi::Number::New(env, static_cast<double>(statistics.received)));
  result.Set("dropped", Napi::Number::New(env, static_cast<double>(statistics.dropped)));
  result.Set("truncated", Napi::Number::New(env, static_cast<double>(statistics.truncated)));
  return result;
}

Napi::Value PacketSocket::TakeError(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), ring_.TakeError());
}

void PacketSocket::Close(const Napi::CallbackInfo& info) {
  if (watch_ == nullptr) return;
  AddonState::Of(info.Env()).Remove(this);
  watch_->Stop();
  watch_ = nullptr;
  // Views that JavaScript still holds become empty instead of pointing at unmapped memory.
  napi_detach_arraybuffer(info.Env(), ring_buffer_.Value());
  ring_.Close();
  kept_alive_.Reset();
}

}  // namespace aoe
