#!/bin/sh
# What compose.yaml needs and nobody else may know, made at random: make_secrets.sh [FOLDER]. Needs openssl. A folder that is
# there is left as it is. The folder is closed to everybody else; files in it can be read, since containers have users of their own.
set -eu
umask 022
folder=${1:-secrets}
[ ! -e "$folder" ] || { echo "make_secrets.sh: $folder is there already" >&2; exit 1; }
command -v openssl >/dev/null || { echo "make_secrets.sh: openssl is needed" >&2; exit 2; }
making=$folder.new
rm -rf "$making"
mkdir -m 700 "$making"

put() { printf '%s' "$2" > "$making/$1"; }
# Key for somebody: the file holds it, and the orchestrator is told its hash, whose it is, and what it opens.
key() {
    put "$1" "rok_$(openssl rand -hex 8)_$(openssl rand -hex 32)"
    hash=$(openssl dgst -sha256 -r "$making/$1" | cut -d ' ' -f 1)
    printf '%s %s %s\n' "$hash" "$2" "$3" >> "$making/first_keys"
}
key operator_key operator "tasks:submit tasks:read tasks:cancel agents:register agents:read audit:read dlq:replay operate breakglass"
key embedder_key embedder-1 agents:register
key modelreasoner_key modelreasoner-1 agents:register

password=$(openssl rand -hex 24)
put postgres_password "$password"
put database_url "postgresql://orchestrator:$password@postgres/orchestrator"

# An authority of this machine's own, and the orchestrator's certificate. The authority's key is thrown away.
(
    cd "$making" &&
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=orchestrator authority" \
        -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign -keyout authority.key -out ca.pem &&
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=orchestrator" -keyout tls.key -out tls.csr &&
    printf 'subjectAltName=DNS:orchestrator,DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' > tls.ext &&
    openssl x509 -req -in tls.csr -CA ca.pem -CAkey authority.key -CAcreateserial -days 3650 -extfile tls.ext -out tls.pem &&
    chmod 644 tls.key && rm -f authority.key tls.csr tls.ext ca.srl
) 2>/dev/null || { echo "make_secrets.sh: openssl could not make the certificate" >&2; exit 2; }
mv "$making" "$folder"
echo "made $folder; the operator's key is in $folder/operator_key"
