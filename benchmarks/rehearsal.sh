#!/bin/sh
# Replies a second of the rehearsal model on one core, text and schema; 1 if a figure is missed.
# Needs wrk (apt-get install wrk), two cores, and a free port: benchmarks/rehearsal.sh [PORT]
set -eu
cd "$(dirname "$0")/.."
port=${1:-19870}
seconds=${SECONDS_EACH:-5}

taskset -c 0 .venv/bin/wordmill rehearse --port "$port" > /dev/null &
server=$!
trap 'kill "$server" 2> /dev/null' EXIT
until curl --silent --fail "http://127.0.0.1:$port/v1/models" > /dev/null; do
  kill -0 "$server"
  sleep 0.1
done

missed=0
measure() { # KIND WANTED
  url=http://127.0.0.1:$port/v1/chat/completions
  found=$(taskset -c 1 wrk -t1 -c256 -d"${seconds}s" -s benchmarks/rehearsal.lua "$url" -- "$1")
  rate=$(echo "$found" | sed -n 's/^replies_per_second //p')
  failed=$(echo "$found" | sed -n 's/^failed //p')
  echo "$1: $rate replies/s on one core (wanted: $2), $failed failed"
  [ "$rate" -ge "$2" ] && [ "$failed" -eq 0 ] || missed=1
}
measure text 80000
measure schema 30000
exit $missed
