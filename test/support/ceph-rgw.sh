#!/bin/bash
# Runs a real S3 service on the loopback: one Ceph monitor, one OSD in memory, one RADOS gateway.
#
#   ceph-rgw.sh DIRECTORY PORT ACCESS_KEY SECRET_KEY
#
# Says "ready" when requests are answered, after some 15 s, and runs until its standard input ends.
set -euo pipefail
directory=$1 port=$2 access_key=$3 secret_key=$4
mkdir -p "$directory"/{mon,osd,run}
cd "$directory"
monitor_port=$((port + 1))
fsid=$(cat /proc/sys/kernel/random/uuid)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait' EXIT

cat >ceph.conf <<CONF
[global]
fsid = $fsid
mon host = 127.0.0.1:$monitor_port
public addr = 127.0.0.1
cluster addr = 127.0.0.1
public network = 127.0.0.0/8
mon initial members = a
mon data = $PWD/mon
osd data = $PWD/osd
run dir = $PWD/run
admin socket = $PWD/run/\$name.\$pid.asok
log file = $PWD/run/\$name.log
keyring = $PWD/keyring
osd objectstore = memstore
memstore device bytes = 1G
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
rgw rados pool pg num min = 1
mon allow pool size one = true
mon data avail crit = 1
mon data avail warn = 1
mon max pg per osd = 2000
auth allow insecure global id reclaim = true
osd crush chooseleaf type = 0
rgw frontends = beast endpoint=127.0.0.1:$port
rgw enable usage log = false
CONF
export CEPH_CONF=$PWD/ceph.conf

# One key that may do everything serves for all daemons.
ceph-authtool -C keyring --gen-key -n mon. --cap mon 'allow *'
for name in client.admin client.rgw osd.0; do
  ceph-authtool keyring --gen-key -n $name --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
done
monmaptool --create --add a "127.0.0.1:$monitor_port" --fsid "$fsid" monmap
ceph-mon --mkfs -i a --monmap monmap --keyring keyring
ceph-mon -f -i a &
pids+=($!)
timeout 30 ceph osd new "$fsid"
ceph-osd --mkfs -i 0 --osd-uuid "$fsid"
ceph-osd -f -i 0 &
pids+=($!)
timeout 30 ceph osd crush add osd.0 1 root=default host=localhost
timeout 30 bash -c 'until ceph osd stat | grep -q "1 up"; do sleep 0.3; done'
radosgw -f -n client.rgw &
pids+=($!)
timeout 60 bash -c "until (: </dev/tcp/127.0.0.1/$port); do sleep 0.3; done"
timeout 60 radosgw-admin user create --uid=test --display-name=test \
  --access-key="$access_key" --secret-key="$secret_key" >user.json
echo ready
cat >/dev/null
