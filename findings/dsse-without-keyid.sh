#!/usr/bin/env bash
# DSSE: a signature without a key id, which the specification allows, holds for the Go library and not for the Python one.
set -euo pipefail

command -v go >/dev/null || {
  echo "go not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS="-mod=mod -buildvcs=false"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'securesystemslib[crypto]==1.6.0'
cat >verify.py <<'END'
import json
import sys

from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

signer = CryptoSigner.generate_ecdsa()
envelope = Envelope(b'{"what": "???~~~"}', "application/vnd.in-toto+json", {})
envelope.sign(signer)
whole = envelope.to_dict()
(signature,) = whole["signatures"]
url_safe = {**whole, "payload": whole["payload"].translate(str.maketrans("+/", "-_"))}
assert url_safe != whole
cases = {
    "whole": whole,
    "url-safe": url_safe,
    "empty": {**whole, "signatures": [{**signature, "keyid": ""}]},
    "none": {**whole, "signatures": [{"sig": signature["sig"]}]},
}
for name, case in cases.items():
    with open(f"{name}.json", "w") as file:
        json.dump(case, file)
    try:
        Envelope.from_dict(json.loads(json.dumps(case))).verify([signer.public_key], 1)
        print(f"{name}: holds")
    except Exception as exc:
        print(f"{name}: {type(exc).__name__}")
with open("public.pem", "w") as file:
    file.write(signer.public_key.keyval["public"])
with open("keyid", "w") as file:
    file.write(signer.public_key.keyid)
END
cat >main.go <<'END'
package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

type key struct{ public *ecdsa.PublicKey }

func (k key) Verify(_ context.Context, data, signature []byte) error {
	digest := sha256.Sum256(data)
	if !ecdsa.VerifyASN1(k.public, digest[:], signature) {
		return errors.New("another signature")
	}
	return nil
}

func (k key) KeyID() (string, error) {
	id, err := os.ReadFile("keyid")
	return string(id), err
}

func (k key) Public() crypto.PublicKey { return k.public }

func main() {
	text, _ := os.ReadFile("public.pem")
	block, _ := pem.Decode(text)
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		panic(err)
	}
	verifier, err := dsse.NewEnvelopeVerifier(key{public.(*ecdsa.PublicKey)})
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"whole", "url-safe", "empty", "none"} {
		var envelope dsse.Envelope
		text, _ := os.ReadFile(name + ".json")
		if err := json.Unmarshal(text, &envelope); err != nil {
			panic(err)
		}
		if _, err := verifier.Verify(context.Background(), &envelope); err != nil {
			fmt.Println(name + ": " + err.Error())
		} else {
			fmt.Println(name + ": holds")
		}
	}
}
END
version=v0.11.1
go mod init finding >/dev/null 2>&1
go mod edit -require "github.com/secure-systems-lab/go-securesystemslib@$version"
go build -o verify . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
python=$(venv/bin/python verify.py | paste -sd, | sed 's/,/, /g')
go=$(./verify | paste -sd, | sed 's/,/, /g')
echo "version:    securesystemslib 1.6.0 (Python), go-securesystemslib $version"
echo "good guess: the key id is an optional hint, so both verify an envelope without one, with the right key at hand"
echo "seen:       Python $python"
echo "            Go     $go"
[[ $python == "whole: holds, url-safe: holds, empty: VerificationError, none: KeyError" && $go == "whole: holds, url-safe: holds, empty: holds, none: holds" ]] || {
  echo "changed: which envelopes the two libraries verify" >&2
  exit 1
}
