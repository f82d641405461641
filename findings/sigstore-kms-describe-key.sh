#!/usr/bin/env bash
# Verify a signature with an AWS KMS key through sigstore's library, whose way Packer's provenance takes, and see what it asks.
set -euo pipefail

command -v go >/dev/null || {
  echo "go not found on PATH" >&2
  exit 2
}
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"
export GOFLAGS="-mod=mod -buildvcs=false"
version=v1.10.8
go mod init finding >/dev/null 2>&1
go mod edit -require "github.com/sigstore/sigstore/pkg/signature/kms/aws@$version" -require "github.com/sigstore/sigstore@$version"
cat >main.go <<'END'
package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	kms "github.com/sigstore/sigstore/pkg/signature/kms/aws"
)

// One key of a service that answers as KMS does; with the argument "denied" it refuses DescribeKey.
func main() {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	public, _ := x509.MarshalPKIXPublicKey(&key.PublicKey)
	arn := "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-4333-8444-555555555555"
	algorithms := []string{"ECDSA_SHA_256"}
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
		asked = append(asked, name)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		if name == "DescribeKey" && os.Args[1] == "denied" {
			w.WriteHeader(400)
			fmt.Fprint(w, `{"__type": "AccessDeniedException", "message": "not authorized to perform: kms:DescribeKey"}`)
			return
		}
		metadata := map[string]any{"KeyId": arn, "Arn": arn, "KeySpec": "ECC_NIST_P256",
			"CustomerMasterKeySpec": "ECC_NIST_P256", "SigningAlgorithms": algorithms}
		json.NewEncoder(w).Encode(map[string]any{"KeyId": arn, "PublicKey": public, "KeyUsage": "SIGN_VERIFY",
			"KeySpec": "ECC_NIST_P256", "SigningAlgorithms": algorithms, "KeyMetadata": metadata})
	}))
	defer server.Close()
	os.Setenv("AWS_ENDPOINT_URL_KMS", server.URL)
	verifier, err := kms.LoadSignerVerifier(context.Background(), "awskms:///alias/provenance")
	if err == nil {
		text := []byte("a statement")
		digest := sha256.Sum256(text)
		signature, _ := key.Sign(rand.Reader, digest[:], crypto.SHA256)
		err = verifier.VerifySignature(bytes.NewReader(signature), bytes.NewReader(text))
	}
	fmt.Println(strings.Join(asked, ","), "verified:", err == nil)
}
END
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
unset AWS_PROFILE AWS_CA_BUNDLE
go build -o verify . >build.log 2>&1 || { cat build.log >&2 && exit 2; }
seen=$(for right in allowed denied; do ./verify "$right"; done | paste -sd'|')
echo "version:    github.com/sigstore/sigstore/pkg/signature/kms/aws $version"
echo "good guess: a signature is verified with the public key alone: kms:GetPublicKey is the one right that a reader needs"
echo "seen:       with every right, and without kms:DescribeKey: ${seen//|/; }"
[[ $seen == "GetPublicKey,DescribeKey verified: true|GetPublicKey,DescribeKey verified: false" ]] || {
  echo "changed: verifying asks KMS for something else now" >&2
  exit 1
}
