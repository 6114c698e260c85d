/** Boot firmware that has its disk from a server, and a disk that tells that it was booted. */
import { type NetworkNamespace, stopChild } from '../support/netns.ts';
import { waitUntil } from '../support/tools.ts';

export const FIRMWARE_TOOLS = ['qemu-system-x86_64', 'ip', 'setpriv'];
const IPXE = '/boot/ipxe.lkrn';
const SECTOR_SIZE = 512;
const IMAGE_SIZE = 8 << 20;
const BOOT_TIMEOUT_MS = 60_000;
const FAILURE = 'disk error';

/** The boot sector reads this sector, */
const READ_SECTOR = 0x1234;
/** writes what it read to this one, and prints it. */
export const WRITTEN_SECTOR = 0x1235;
/** What the disk prints. */
export const TEXT = 'served over Ethernet\r\n';

/**
 * A boot sector, loaded at 0x7c00, that copies one sector through the BIOS's disk service and
 * prints its text, up to a zero, on the first serial port. On an error it prints "disk error".
 */
function bootSector(): Buffer {
  const addressPacket = (sector: number) => {
    const packet = Buffer.alloc(16);
    packet.set([16, 0, 1, 0]); // size of the packet, reserved, one sector
    packet.writeUInt16LE(0x7e00, 4); // buffer at 0000:7e00
    packet.writeBigUInt64LE(BigInt(sector), 8);
    return packet;
  };
  // biome-ignore format: one instruction a line
  const code = Buffer.from([
    0xfa,             // 7c00      cli
    0x31, 0xc0,       //           xor ax, ax
    0x8e, 0xd8,       //           mov ds, ax
    0x8e, 0xc0,       //           mov es, ax
    0x8e, 0xd0,       //           mov ss, ax
    0xbc, 0x00, 0x7c, //           mov sp, 0x7c00
    0xfb,             //           sti
    0xb4, 0x42,       //           mov ah, 0x42        extended read from drive dl
    0xbe, 0x50, 0x7c, //           mov si, 0x7c50
    0xcd, 0x13,       //           int 0x13
    0x72, 0x0f,       //           jc fail
    0xb8, 0x00, 0x43, //           mov ax, 0x4300      extended write
    0xbe, 0x60, 0x7c, //           mov si, 0x7c60
    0xcd, 0x13,       //           int 0x13
    0x72, 0x05,       //           jc fail
    0xbe, 0x00, 0x7e, //           mov si, 0x7e00
    0xeb, 0x03,       //           jmp print
    0xbe, 0x70, 0x7c, // fail:     mov si, 0x7c70
    0xac,             // print:    lodsb
    0x84, 0xc0,       //           test al, al
    0x74, 0x12,       //           jz halt
    0x88, 0xc4,       //           mov ah, al
    0xba, 0xfd, 0x03, //           mov dx, 0x3fd       line status
    0xec,             // wait:     in al, dx
    0xa8, 0x20,       //           test al, 0x20
    0x74, 0xfb,       //           jz wait
    0xba, 0xf8, 0x03, //           mov dx, 0x3f8       data
    0x88, 0xe0,       //           mov al, ah
    0xee,             //           out dx, al
    0xeb, 0xe9,       //           jmp print
    0xf4,             // halt:     hlt
    0xeb, 0xfd,       //           jmp halt
  ]);
  const sector = Buffer.alloc(SECTOR_SIZE);
  sector.set(code);
  sector.set(addressPacket(READ_SECTOR), 0x50);
  sector.set(addressPacket(WRITTEN_SECTOR), 0x60);
  sector.write('disk error\r\n', 0x70);
  sector.set([0x55, 0xaa], SECTOR_SIZE - 2);
  return sector;
}

/** A disk that, when it is booted, copies a sector and prints {@link TEXT}. */
export function bootableImage(): Buffer {
  const image = Buffer.alloc(IMAGE_SIZE);
  image.set(bootSector());
  image.write(TEXT, READ_SECTOR * SECTOR_SIZE);
  return image;
}

/**
 * Boots a machine without a disk, whose firmware runs the script at `scriptPath`.
 *
 * @param extra arguments for QEMU, which can speak of the network as `net`
 * @returns what it printed until it had booted from a {@link bootableImage}, or failed to
 */
export async function bootFromNetwork(
  namespace: NetworkNamespace,
  tap: string,
  scriptPath: string,
  extra: readonly string[] = [],
): Promise<string> {
  const qemu = namespace.spawn(
    'qemu-system-x86_64',
    [
      // iPXE finds its script only with enough memory below 4 GiB; 64 MiB are too little.
      ...['-accel', 'tcg', '-m', '256M', '-nodefaults', '-display', 'none', '-no-reboot'],
      ...['-kernel', IPXE, '-initrd', scriptPath, '-serial', 'stdio'],
      // With a virtio header before each frame tshark could not read a dump.
      ...['-netdev', `tap,id=net,ifname=${tap},script=no,downscript=no,vnet_hdr=off`],
      // Without its own boot ROM: that one would go first.
      ...['-device', 'virtio-net-pci,netdev=net,romfile='],
      ...extra,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let printed = '';
  qemu.stdout?.on('data', (chunk: Buffer) => {
    printed += chunk.toString('latin1');
  });
  try {
    const isDone = () => printed.includes(TEXT) || printed.includes(FAILURE);
    await waitUntil('booting', isDone, BOOT_TIMEOUT_MS);
  } finally {
    await stopChild(qemu, 'SIGKILL');
  }
  return printed;
}
