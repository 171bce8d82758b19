#!/bin/sh
# Starts a throw-away Slurm of one node on loopback, without systemd. Needs root, and
#   apt-get install --no-install-recommends slurm-wlm munge
# usage: start.sh FOLDER    prints the SLURM_CONF to set; stop.sh FOLDER ends it
set -eu
mkdir -p "$1"
root=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
host=$(hostname -s 2>/dev/null || uname -n)
# More cores than there are, for tests whose tasks must run at the same time.
cpus=${SLURM_TEST_CPUS:-$(nproc)}
memory=$(awk '/MemTotal/ { print int($2 / 1024 * 0.8) }' /proc/meminfo)
# Two ports from the process number: several of these may run at once.
port=$((20000 + $$ * 2 % 20000))
mkdir -p "$root/munge" "$root/ctld" "$root/slurmd"
chmod 0755 "$root" "$root/munge"
# munged refuses a key that others could read.
(umask 077 && head -c 1024 /dev/urandom > "$root/munge.key")
munged --force --key-file="$root/munge.key" --socket="$root/munge/munge.socket" \
  --pid-file="$root/munge/munged.pid" --log-file="$root/munge/munged.log" --seed-file="$root/munge/munged.seed"
sed -e "s|@ROOT@|$root|g" -e "s|@HOST@|$host|g" -e "s|@CPUS@|$cpus|g" -e "s|@MEM@|$memory|g" \
  -e "s|@CTLPORT@|$port|g" -e "s|@DPORT@|$((port + 1))|g" "$here/slurm.conf.in" > "$root/slurm.conf"
printf '#!/bin/sh\ncat > /dev/null\necho "$@" >> "%s/mail.log"\n' "$root" > "$root/mail"
chmod 0755 "$root/mail"
echo "NodeName=$host Name=gpu File=/dev/null" > "$root/gres.conf"
export SLURM_CONF="$root/slurm.conf"
slurmctld -i
slurmd
tries=0
until sinfo --noheader --format=%t 2>/dev/null | grep -q '^idle'; do
  tries=$((tries + 1))
  if [ $tries -gt 300 ]; then
    echo "Slurm did not come up; see $root/*.log" >&2
    "$here/stop.sh" "$root"
    exit 1
  fi
  sleep 0.1
done
echo "$SLURM_CONF"
