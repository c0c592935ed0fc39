# A throw-away PostgreSQL cluster: sh -c "$(cat postgres.sh)" sh DIRECTORY-OF-THE-SERVER'S-PROGRAMS
#
# Says its directory and then "up" or "down" for each time that it got there. Lines of input, "start" and "stop", ask for
# more; the end of input ends the cluster and removes its files. The test process holds the other end of that pipe, which
# closes however the process dies, so nothing outlives it.
umask 077
cd / || exit
# A test that dies while the cluster starts must not take this script with it.
trap '' PIPE

base=${TMPDIR:-/tmp}
[ -w "$base" ] || base=/tmp
# In memory, where there is a GiB of it to spare.
room=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')
[ -w /dev/shm ] && [ "${room:-0}" -gt 1048576 ] && base=/dev/shm
directory=$(mktemp -d "$base/tenantry-postgres-XXXXXX") || exit

end() {
  [ -d "$directory/standby" ] && "$1/pg_ctl" -D "$directory/standby" -m immediate -w stop >/dev/null 2>&1
  "$1/pg_ctl" -D "$directory/data" -m fast -w stop >/dev/null 2>&1
  rm -rf "$directory"
  exit "$2"
}

start() {
  if ! "$1/pg_ctl" -D "$directory/data" -l "$directory/log" -w start </dev/null >/dev/null 2>&1; then
    cat "$directory/log" >&2
    end "$1" 1
  fi
}

if ! "$1/initdb" -D "$directory/data" -A trust -U postgres -N -E UTF8 --locale=C.UTF-8 </dev/null >"$directory/log" 2>&1; then
  cat "$directory/log" >&2
  end "$1" 1
fi
# A socket in a directory of its own cannot clash with another server's port. Nothing here is worth a flush to the disk.
cat >>"$directory/data/postgresql.conf" <<END
listen_addresses = ''
port = 5432
unix_socket_directories = '$directory'
max_connections = 400
fsync = off
synchronous_commit = off
full_page_writes = off
END

# A second server that has all that the first acknowledges: it listens under the port 5433 of the same directory.
follow() {
  "$1/pg_basebackup" -h "$directory" -p 5432 -U postgres -D "$directory/standby" -R -X stream -c fast || return
  echo "port = 5433" >>"$directory/standby/postgresql.conf"
  "$1/pg_ctl" -D "$directory/standby" -l "$directory/standby.log" -w start </dev/null >/dev/null 2>&1 || return
  for setting in "synchronous_commit = on" "synchronous_standby_names = '*'"; do
    "$1/psql" -q -h "$directory" -p 5432 -U postgres -c "ALTER SYSTEM SET $setting" postgres || return
    "$1/psql" -q -h "$directory" -p 5433 -U postgres -c "SELECT 1" postgres >/dev/null || return
  done
  "$1/psql" -q -h "$directory" -p 5432 -U postgres -c "SELECT pg_reload_conf()" postgres >/dev/null
}

# The first dies without a word, and the second takes its place, alone.
fail_over() {
  "$1/pg_ctl" -D "$directory/data" -m immediate -w stop >/dev/null 2>&1 || return
  printf "synchronous_standby_names = ''\nsynchronous_commit = on\n" >>"$directory/standby/postgresql.conf"
  "$1/pg_ctl" -D "$directory/standby" -w promote >/dev/null 2>&1
}

start "$1"
echo "$directory" 2>/dev/null
echo up 2>/dev/null
while read -r order; do
  case $order in
    start)
      start "$1"
      echo up 2>/dev/null
      ;;
    stop)
      "$1/pg_ctl" -D "$directory/data" -m fast -w stop >/dev/null 2>&1 || end "$1" 1
      echo down 2>/dev/null
      ;;
    follow)
      follow "$1" </dev/null >>"$directory/log" 2>&1 || { cat "$directory/log" "$directory/standby.log" >&2; end "$1" 1; }
      echo followed 2>/dev/null
      ;;
    fail_over)
      fail_over "$1" </dev/null >>"$directory/log" 2>&1 || { cat "$directory/log" "$directory/standby.log" >&2; end "$1" 1; }
      echo failed_over 2>/dev/null
      ;;
  esac
done
end "$1" 0
