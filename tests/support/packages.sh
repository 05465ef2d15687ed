#!/bin/bash
# The programs of other people that the tests and benchmarks run against, from Debian; and one package from npm.
# As root: installs what is missing. Otherwise: says what is missing, and fails. Starts no service either way.
set -euo pipefail

# Program: Debian package. The Perl modules are what swaks needs for TLS and AUTH.
needed=(
    smtp-source:postfix smtp-sink:postfix swaks:swaks
    opendkim:opendkim opendkim-testmsg:opendkim-tools openssl:openssl cc:gcc
    bearerbox:kannel smsbox:kannel mtbatch:kannel node:nodejs npm:npm wrk:wrk
    chromium:chromium
)
# The program that is installed is compiled: Python's own header.
header='import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
modules=(Net::SSLeay:libnet-ssleay-perl Net::DNS:libnet-dns-perl Net::SMPP:libnet-smpp-perl)
# node-smpp lies where `make clean` finds it.
smpp=0.5.1
node=build/node

# Packages that are missing, on one line.
missing_packages() {
    local each
    for each in "${needed[@]}"; do
        command -v "${each%%:*}" >/dev/null || echo "${each##*:}"
    done | sort -u | tr '\n' ' '
    .venv/bin/python -c "$header" || printf 'python3-dev '
    for each in "${modules[@]}"; do
        perl -M"${each%:*}" -e1 2>/dev/null || echo "${each##*:}"
    done | tr '\n' ' '
}

install_node_smpp() {
    local there=$node/node_modules/smpp/package.json
    if [ -e $there ] && grep -q "\"version\": \"$smpp\"" $there; then return; fi
    echo "Installing what the tests need: node-smpp"
    npm install --prefix $node --no-audit --no-fund --silent --save-exact "smpp@$smpp" </dev/null && [ -e $there ] || {
        echo "The tests need the npm package smpp: npm install --prefix $node smpp@$smpp failed" >&2
        exit 1
    }
}

# Three mail servers that Debian does not install beside Postfix, and m4, which writes Sendmail's settings: unpacked, with
# their libraries, where `make clean` finds them (tests/support/mtas.py).
mtas=build/mtas
unpack_mtas() {
    local packages=(exim4-daemon-light opensmtpd sendmail-bin sendmail-cf m4) each
    if [ -e $mtas/unpacked ] && [ "$(cat $mtas/unpacked)" = "${packages[*]}" ]; then return; fi
    echo "Unpacking what the tests need: ${packages[*]}"
    rm -rf $mtas
    mkdir -p $mtas/packages
    # Lists that are missing or old name packages that are not there.
    download "${packages[@]}" || { apt-get -qq update </dev/null && download "${packages[@]}"; } || {
        echo "The tests need ${packages[*]}: apt-get download failed" >&2
        exit 1
    }
    for each in "$mtas"/packages/*.deb; do dpkg -x "$each" $mtas; done
    # Otherwise the loader would pass over the libraries beside them.
    chmod u-s $mtas/usr/sbin/exim4
    chmod g-s $mtas/usr/libexec/sendmail/sendmail
    echo "${packages[*]}" >$mtas/unpacked
}

# These packages and the libraries they name.
download() {
    local libraries
    libraries=$(apt-cache depends "$@" 2>/dev/null | sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p' | sort -u | grep -v '^libc6$') \
        && (cd $mtas/packages && apt-get download -qq "$@" $libraries </dev/null 2>/dev/null)
}

read -ra missing <<<"$(missing_packages)"
if [ ${#missing[@]} = 0 ]; then
    install_node_smpp
    unpack_mtas
    exit
fi

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "The tests need programs that are missing here. As root: apt-get install ${missing[*]}" >&2
    exit 1
fi

echo "Installing what the tests need: ${missing[*]}"
# Debian starts a service as soon as it is installed, unless this file says no (invoke-rc.d(8)).
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
if [[ " ${missing[*]} " == *" postfix "* ]]; then
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
fi
quiet=(-qq -o Dpkg::Use-Pty=0)
apt-get "${quiet[@]}" update </dev/null
# --no-remove: a mail server that is in use on this machine must not make way for ours.
apt-get "${quiet[@]}" install -y --no-install-recommends --no-remove "${missing[@]}" </dev/null >/dev/null

read -ra missing <<<"$(missing_packages)"
if [ ${#missing[@]} -gt 0 ]; then
    echo "Still missing after apt-get install: ${missing[*]}" >&2
    exit 1
fi
install_node_smpp
unpack_mtas
