// One interface's packet ring as a JavaScript object.
//
//   new PacketSocket({interface, frameSizeMax, ringSize, filter, slab, received, arrivals,
//                     sent, outcome, sentUs}, onReadable)   filter: classic BPF, as Uint32Array
//                     of (code, jump if true, jump if false, operand)
//   .ring                 ArrayBuffer over the receive ring; detached by close()
//   .index .mtu .mac .loopback   the interface as it was at open
//   .next(sendCount, spinUs)     one step: gives the last step's frames back to the kernel, sends
//                         the first `sendCount` rows of `sent` from `slab`, and takes up to 64
//                         waiting frames into `received` and `arrivals`, spinning up to `spinUs`
//                         for the first. Returns how many it took.
//   .send(sendCount)      sends only
//   .takeError()          takes and clears the socket's pending errno
//   .statistics()         {received, dropped, truncated} since open
//   .close()              idempotent
//
// Rows: received and sent are Int32Array of (offset, size) pairs, offsets from the start of ring
// and slab; arrivals is a Float64Array of microseconds; outcome is an Int32Array: [0] frames sent
// by the last call, [1] the errno that stopped it, or 0; sentUs is a Float64Array: [0] when that
// was, in microseconds since the epoch, if there was something to send.
//
// Ownership: frames that next() took belong to JavaScript until the following next() or close().
// The typed arrays are JavaScript's; this object keeps them alive and writes them only inside
// calls. onReadable(errno) is called from the event loop when frames wait or the socket failed.
#pragma once

#include <napi.h>

#include "addon_state.h"
#include "packet_ring.h"
#include "poll_watch.h"

namespace aoe {

class PacketSocket final : public Napi::ObjectWrap<PacketSocket>, private ReadySource {
 public:
  static void Register(Napi::Env env, Napi::Object exports);

  explicit PacketSocket(const Napi::CallbackInfo& info);
  ~PacketSocket() override;

 private:
  Napi::Value Next(const Napi::CallbackInfo& info);
  void Send(const Napi::CallbackInfo& info);
  Napi::Value Statistics(const Napi::CallbackInfo& info);
  Napi::Value TakeError(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  bool Ready() const override { return ring_.Ready(); }
  void DescribeInterface(Napi::Env env, Napi::Object self);
  void SendRows(uint32_t count);
  uint32_t TakeFrames();
  void Spin(Napi::Env env, double spin_us) const;

  PacketRing ring_;
  PollWatch* watch_ = nullptr;
  Napi::Reference<Napi::ArrayBuffer> ring_buffer_;
  Napi::ObjectReference kept_alive_;
  const std::byte* slab_ = nullptr;
  int32_t* received_ = nullptr;
  double* arrivals_ = nullptr;
  const SentFrame* sent_ = nullptr;
  int32_t* outcome_ = nullptr;
  double* sent_us_ = nullptr;
};

}  // namespace aoe
