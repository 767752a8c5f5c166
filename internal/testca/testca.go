// Package testca makes CAs and certificates for tests, as files. Only tests import it.
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA signs certificates.
type CA struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	// File has its certificate.
	File string
}

// New makes a CA, with its file in dir.
func New(t testing.TB, dir string) *CA {
	t.Helper()
	ca := &CA{t: t, key: newKey(t), File: filepath.Join(dir, "ca.crt")}
	ca.cert = ca.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil, &ca.key.PublicKey)
	write(t, ca.File, "CERTIFICATE", ca.cert.Raw)
	return ca
}

// Issue makes a certificate for names, or addresses, in dir, NAME.crt and NAME.key of the
// first name, and returns these files. change may be nil.
func (ca *CA) Issue(dir string, change func(*x509.Certificate), names ...string) (cert, key string) {
	ca.t.Helper()
	k := newKey(ca.t)
	template := &x509.Certificate{
		DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	c := ca.sign(template, ca.cert, &k.PublicKey)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		ca.t.Fatal(err)
	}
	cert, key = filepath.Join(dir, names[0]+".crt"), filepath.Join(dir, names[0]+".key")
	write(ca.t, key, "PRIVATE KEY", der)
	write(ca.t, cert, "CERTIFICATE", c.Raw)
	return cert, key
}

func (ca *CA) sign(c, parent *x509.Certificate, public *ecdsa.PublicKey) *x509.Certificate {
	ca.t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		ca.t.Fatal(err)
	}
	c.SerialNumber = serial
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	}
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return out
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// write puts a file in its place at once.
func write(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
