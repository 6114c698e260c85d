// The AF_PACKET side of one interface: a memory-mapped receive ring and a batch sender.
// Plain C++: no N-API, no libuv, no knowledge of AoE beyond its EtherType and the size of its frames.
//
// Receive: PACKET_RX_RING with TPACKET_V2. Slots [tail_, head_) are with the reader; Release()
// gives them back to the kernel, and nothing may look at them afterwards. All other slots belong
// to the kernel. V2, because V3 retires blocks by a timer, which costs a millisecond at low load.
//
// Send: sendmmsg on a second socket, so that PACKET_QDISC_BYPASS needs no receive queue. The
// kernel copies each frame, so memory is free for reuse when Send() returns. A virtio header goes
// before each (PACKET_VNET_HDR) and tells how long its headers are, which decides in what memory the
// kernel keeps the frame: see kHeadersMax.
//
// Threading: one thread at a time.
#pragma once

#include <linux/filter.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "network_interface.h"
#include "system_error.h"
#include "unique_fd.h"

namespace aoe {

inline constexpr uint32_t kBatchFrames = 64;

struct ReceivedFrame {
  uint32_t offset;  // of the destination MAC, from the start of the ring
  uint32_t size;    // bytes, without FCS
  double arrival_us;  // kernel receive time, microseconds since the epoch
};

struct SentFrame {
  int32_t offset;  // of the destination MAC, from the start of the slab
  int32_t size;
};

// virtio_net_hdr, which the kernel takes before a frame: the system's header of it is not C++.
struct VirtioHeader {
  uint8_t flags = 0;
  uint8_t gso_type = 0;
  uint16_t headers_size = 0;  // of the frame, in bytes
  uint16_t gso_size = 0;
  uint16_t checksum_start = 0;
  uint16_t checksum_offset = 0;
};
static_assert(sizeof(VirtioHeader) == 10);

class PacketRing {
 public:
  struct Options {
    std::string interface;
    uint32_t frame_size_max;  // largest Ethernet frame to receive, without FCS, bytes
    uint32_t ring_size;       // bytes, at least
    std::vector<sock_filter> filter;  // classic BPF: which of the interface's own frames to receive
  };

  struct Statistics {
    uint64_t received = 0;   // passed by the filter
    uint64_t dropped = 0;    // no free slot
    uint64_t truncated = 0;  // longer than a slot
  };

  PacketRing() = default;
  ~PacketRing() { Close(); }
  PacketRing(const PacketRing&) = delete;
  PacketRing& operator=(const PacketRing&) = delete;

  // Opens both sockets. Nothing is received before the filter is attached.
  SystemError Open(const Options& options);

  // Unmaps the ring and closes the sockets. Idempotent.
  void Close();

  int receive_fd() const { return receive_fd_.get(); }
  const NetworkInterface& interface() const { return interface_; }
  bool is_loopback() const;
  std::byte* memory() const { return memory_; }
  size_t memory_size() const { return memory_size_; }

  // Is a frame waiting?
  bool Ready() const;

  // Takes up to kBatchFrames waiting frames. They stay valid until Release().
  uint32_t Receive(ReceivedFrame* frames);
  void Release();

  // Sends frames in order. Returns how many went out; the rest were not tried, or the first of
  // them failed with `*error`. EMSGSIZE concerns that frame alone.
  uint32_t Send(const std::byte* slab, const SentFrame* frames, uint32_t count, int* error);

  Statistics ReadStatistics();

  // Takes and clears the socket's pending error, such as ENETDOWN.
  int TakeError();

 private:
  SystemError CheckInterface(const std::string& name);
  SystemError OpenReceiver(const Options& options);
  SystemError MapRing(const Options& options);
  SystemError OpenSender();
  SystemError Bind(int fd, uint16_t protocol);
  tpacket2_hdr* Slot(uint32_t index) const;

  UniqueFd receive_fd_;
  UniqueFd send_fd_;
  NetworkInterface interface_;
  std::byte* memory_ = nullptr;
  size_t memory_size_ = 0;
  uint32_t slot_size_ = 0;
  uint32_t slots_per_block_ = 0;
  uint32_t slot_count_ = 0;
  uint32_t head_ = 0;
  uint32_t tail_ = 0;
  uint32_t held_ = 0;
  Statistics statistics_;
  bool takes_virtio_ = false;
  std::array<mmsghdr, kBatchFrames> messages_{};
  std::array<VirtioHeader, kBatchFrames> headers_{};
  std::array<std::array<iovec, 2>, kBatchFrames> vectors_{};
};

}  // namespace aoe
