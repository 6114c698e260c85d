#include "packet_ring.h"

#include <arpa/inet.h>
#include <net/if_arp.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

namespace aoe {

namespace {

constexpr uint16_t kEtherTypeAoe = 0x88a2;
constexpr uint32_t kBlockSize = 1 << 18;

// The kernel keeps headers together and puts the rest into pages. Pages that one processor fills and
// another one frees come round late, from where no cache has them, and some two thousand at a time,
// for which all frames wait; small memory is used again at once. So all of a frame that fits there,
// with what the kernel keeps around it, passes for headers: 15 sectors and what comes before them.
constexpr int32_t kHeadersMax = 36 + 15 * 512;

// What comes in for an interface on top of this one, such as a VLAN, is shown to its sockets, too.
SystemError AttachFilter(int fd, int interface_index, std::vector<sock_filter> filter) {
  const std::array<sock_filter, 3> is_ours = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_IFINDEX)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(interface_index), 1, 0),
      BPF_STMT(BPF_RET | BPF_K, 0),
  }};
  filter.insert(filter.begin(), is_ours.begin(), is_ours.end());
  sock_fprog program{.len = static_cast<uint16_t>(filter.size()), .filter = filter.data()};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) {
    return {errno, "setsockopt(SO_ATTACH_FILTER)"};
  }
  return {};
}

SystemError SetPacketOption(int fd, int option, int value, const char* name) {
  if (setsockopt(fd, SOL_PACKET, option, &value, sizeof value) < 0) return {errno, name};
  return {};
}

}  // namespace

void PacketRing::Close() {
  if (memory_ != nullptr) munmap(memory_, memory_size_);
  memory_ = nullptr;
  receive_fd_.Reset();
  send_fd_.Reset();
}

SystemError PacketRing::Open(const Options& options) {
  // Protocol 0: the socket hears nothing until Bind(), which comes after filter and ring.
  receive_fd_ = UniqueFd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!receive_fd_.is_open()) return {errno, "socket(AF_PACKET)"};
  if (auto failure = CheckInterface(options.interface)) return failure;
  if (auto failure = OpenReceiver(options)) return failure;
  return OpenSender();
}

SystemError PacketRing::CheckInterface(const std::string& name) {
  if (auto failure = ReadInterface(receive_fd_.get(), name, &interface_)) return failure;
  if (!interface_.up) return {ENETDOWN, "ioctl(SIOCGIFFLAGS)"};
  if (interface_.type == ARPHRD_ETHER || is_loopback()) return {};
  return {EPROTONOSUPPORT, "ioctl(SIOCGIFHWADDR)"};
}

SystemError PacketRing::OpenReceiver(const Options& options) {
  const int fd = receive_fd_.get();
  if (auto failure = AttachFilter(fd, interface_.index, options.filter)) return failure;
  if (auto failure = SetPacketOption(fd, PACKET_VERSION, TPACKET_V2, "setsockopt(PACKET_VERSION)"))
    return failure;
  if (auto failure = SetPacketOption(fd, PACKET_IGNORE_OUTGOING, 1,
                                     "setsockopt(PACKET_IGNORE_OUTGOING)"))
    return failure;
  if (auto failure = MapRing(options)) return failure;
  return Bind(fd, kEtherTypeAoe);
}

SystemError PacketRing::MapRing(const Options& options) {
  // The kernel puts the frame's network header at TPACKET2_HDRLEN, rounded up, plus room for the
  // link header, so a slot must hold some bytes more than the frame itself.
  constexpr uint32_t kRoomBeforeFrame = TPACKET_ALIGN(TPACKET2_HDRLEN) + 16;
  slot_size_ = static_cast<uint32_t>(TPACKET_ALIGN(kRoomBeforeFrame + options.frame_size_max));
  slots_per_block_ = kBlockSize / slot_size_;
  const uint32_t block_count = std::max(1U, options.ring_size / kBlockSize);
  slot_count_ = slots_per_block_ * block_count;
  tpacket_req request{
      .tp_block_size = kBlockSize,
      .tp_block_nr = block_count,
      .tp_frame_size = slot_size_,
      .tp_frame_nr = slot_count_,
  };
  const int fd = receive_fd_.get();
  if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) < 0) {
    return {errno, "setsockopt(PACKET_RX_RING)"};
  }
  const size_t size = size_t{kBlockSize} * block_count;
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (memory == MAP_FAILED) return {errno, "mmap(PACKET_RX_RING)"};
  memory_ = static_cast<std::byte*>(memory);
  memory_size_ = size;
  return {};
}

SystemError PacketRing::OpenSender() {
  send_fd_ = UniqueFd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!send_fd_.is_open()) return {errno, "socket(AF_PACKET)"};
  if (auto failure = SetPacketOption(send_fd_.get(), PACKET_QDISC_BYPASS, 1,
                                     "setsockopt(PACKET_QDISC_BYPASS)"))
    return failure;
  // Where there is no such option frames lie in pages, and that is all.
  takes_virtio_ =
      !SetPacketOption(send_fd_.get(), PACKET_VNET_HDR, 1, "setsockopt(PACKET_VNET_HDR)");
  // What the driver has not sent yet counts. Who may not have that much gets what the system allows.
  const int size = 4 << 20;
  for (const int option : {SO_SNDBUFFORCE, SO_SNDBUF}) {
    if (setsockopt(send_fd_.get(), SOL_SOCKET, option, &size, sizeof size) == 0) break;
  }
  return Bind(send_fd_.get(), 0);
}

SystemError PacketRing::Bind(int fd, uint16_t protocol) {
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(protocol);
  address.sll_ifindex = interface_.index;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) return {errno, "bind"};
  return {};
}

tpacket2_hdr* PacketRing::Slot(uint32_t index) const {
  const size_t block = index / slots_per_block_;
  const size_t within = index % slots_per_block_;
  return reinterpret_cast<tpacket2_hdr*>(memory_ + block * kBlockSize + within * slot_size_);
}

bool PacketRing::is_loopback() const { return interface_.type == ARPHRD_LOOPBACK; }

bool PacketRing::Ready() const {
  std::atomic_ref<uint32_t> status(Slot(head_)->tp_status);
  return (status.load(std::memory_order_acquire) & TP_STATUS_USER) != 0;
}

uint32_t PacketRing::Receive(ReceivedFrame* frames) {
  uint32_t count = 0;
  while (count < kBatchFrames && held_ < slot_count_ && Ready()) {
    const tpacket2_hdr* slot = Slot(head_);
    if (++head_ == slot_count_) head_ = 0;
    held_++;
    if (slot->tp_snaplen < slot->tp_len) {
      statistics_.truncated++;
      continue;
    }
    const auto* start = reinterpret_cast<const std::byte*>(slot) + slot->tp_mac;
    frames[count++] = {
        .offset = static_cast<uint32_t>(start - memory_),
        .size = slot->tp_snaplen,
        .arrival_us = slot->tp_sec * 1e6 + slot->tp_nsec / 1000,
    };
  }
  return count;
}

void PacketRing::Release() {
  for (; held_ > 0; held_--) {
    std::atomic_ref<uint32_t> status(Slot(tail_)->tp_status);
    status.store(TP_STATUS_KERNEL, std::memory_order_release);
    if (++tail_ == slot_count_) tail_ = 0;
  }
}

uint32_t PacketRing::Send(const std::byte* slab, const SentFrame* frames, uint32_t count,
                          int* error) {
  *error = 0;
  uint32_t sent = 0;
  while (sent < count) {
    const uint32_t batch = std::min(count - sent, kBatchFrames);
    for (uint32_t i = 0; i < batch; i++) {
      const SentFrame& frame = frames[sent + i];
      headers_[i].headers_size = static_cast<uint16_t>(std::min(frame.size, kHeadersMax));
      vectors_[i] = {iovec{&headers_[i], sizeof headers_[i]},
                     iovec{const_cast<std::byte*>(slab + frame.offset),
                           static_cast<size_t>(frame.size)}};
      messages_[i].msg_hdr.msg_iov = &vectors_[i][takes_virtio_ ? 0 : 1];
      messages_[i].msg_hdr.msg_iovlen = takes_virtio_ ? 2 : 1;
    }
    const int done = sendmmsg(send_fd_.get(), messages_.data(), batch, MSG_DONTWAIT);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) {
      *error = errno;
      return sent;
    }
    sent += static_cast<uint32_t>(done);
  }
  return sent;
}

PacketRing::Statistics PacketRing::ReadStatistics() {
  tpacket_stats stats{};
  socklen_t size = sizeof stats;
  // Reading clears the kernel's counters; tp_packets counts the dropped ones too.
  if (getsockopt(receive_fd_.get(), SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0) {
    statistics_.received += stats.tp_packets - stats.tp_drops;
    statistics_.dropped += stats.tp_drops;
  }
  return statistics_;
}

int PacketRing::TakeError() {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(receive_fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

}  // namespace aoe
