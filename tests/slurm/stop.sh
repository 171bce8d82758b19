#!/bin/sh
# Ends what start.sh began, by the process numbers that it wrote. usage: stop.sh FOLDER
root=$1
for file in "$root/slurmd.pid" "$root/slurmctld.pid" "$root/munge/munged.pid"; do
  [ -f "$file" ] && kill "$(cat "$file")" 2>/dev/null
done
tries=0
while [ $tries -lt 50 ]; do
  alive=0
  for file in "$root/slurmd.pid" "$root/slurmctld.pid" "$root/munge/munged.pid"; do
    [ -f "$file" ] && kill -0 "$(cat "$file" 2>/dev/null)" 2>/dev/null && alive=1
  done
  [ $alive = 0 ] && exit 0
  tries=$((tries + 1))
  sleep 0.1
done
exit 1
