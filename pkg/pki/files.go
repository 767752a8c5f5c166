package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// The most bytes of each file.
const (
	maxCertificates = 1 << 20
	maxKey          = 64 << 10
	maxList         = 64 << 20
)

// ReadKey reads a file that holds a private key, as ReadSecret does.
func ReadKey(path string) ([]byte, error) { return ReadSecret(path, "key") }

// ReadSecret reads a file that holds a secret, which what names in messages. It must belong
// to root or this user, and others may neither read nor write it (fsys.UnsafeError
// otherwise).
func ReadSecret(path, what string) ([]byte, error) {
	f, err := fsys.OpenTrusted(path, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	switch mode := st.Mode & 0o777; {
	case mode&0o007 != 0:
		return nil, &fsys.UnsafeError{Path: path, Why: fmt.Sprintf("its mode is %04o: everybody may read the %s in it", mode, what), Fix: "chmod 0600 " + path}
	case mode&0o020 != 0:
		return nil, &fsys.UnsafeError{Path: path, Why: fmt.Sprintf("its mode is %04o: its group may replace the %s in it", mode, what), Fix: "chmod 0600 " + path}
	}
	return readMost(f, maxKey)
}

func readMost(f *os.File, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = &fsys.UnsafeError{Path: f.Name(), Why: fmt.Sprintf("is larger than %d bytes", most)}
	}
	return b, err
}

// ParseCertificates reads the certificates of a PEM file, at least one. Other things in it,
// but a private key, are left alone, as CA bundles have remarks.
func ParseCertificates(path string, data []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	rest := data
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case strings.Contains(block.Type, "PRIVATE KEY"):
			return nil, fmt.Errorf("%s: it holds a private key, which belongs into a file of its own", path)
		case block.Type != "CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE" && block.Type != "X509 CERTIFICATE":
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: its certificate number %d cannot be read: %w", path, len(list)+1, err)
		}
		list = append(list, c)
	}
	switch {
	case bytes.Contains(rest, []byte("-----BEGIN")):
		return nil, fmt.Errorf("%s: the PEM in it is cut off or damaged behind certificate number %d", path, len(list))
	case len(list) == 0 && len(bytes.TrimSpace(data)) == 0:
		return nil, fmt.Errorf("%s: it is empty: a certificate in PEM is expected", path)
	case len(list) == 0:
		return nil, fmt.Errorf("%s: it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)", path)
	}
	return list, nil
}

// parseCAs reads a file of CA certificates.
func parseCAs(path string, data []byte) ([]*x509.Certificate, error) {
	list, err := ParseCertificates(path, data)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if c.BasicConstraintsValid && !c.IsCA || !c.BasicConstraintsValid && c.Version == 3 {
			return nil, fmt.Errorf("%s: the certificate of %q in it is no CA's", path, clip(c.Subject.String()))
		}
	}
	return list, nil
}

// pair is a certificate with the key that belongs to it.
type pair struct {
	tls  *tls.Certificate
	leaf *x509.Certificate
}

// parsePair reads a certificate, with those between it and the CA behind it, and its key.
func parsePair(certPath string, cert []byte, keyPath string, key []byte) (*pair, error) {
	chain, err := ParseCertificates(certPath, cert)
	if err != nil {
		return nil, err
	}
	signer, err := ParseKey(keyPath, key)
	if err != nil {
		return nil, err
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		for _, c := range chain[1:] {
			if ok && public.Equal(c.PublicKey) {
				return nil, fmt.Errorf("%s: the certificate that belongs to %s must stand first in it, and those above it behind", certPath, keyPath)
			}
		}
		return nil, fmt.Errorf("%s is not the key of the certificate in %s (serial %s)", keyPath, certPath, Serial(chain[0].SerialNumber))
	}
	p := &pair{tls: &tls.Certificate{PrivateKey: signer, Leaf: chain[0]}, leaf: chain[0]}
	for _, c := range chain {
		p.tls.Certificate = append(p.tls.Certificate, c.Raw)
	}
	return p, nil
}

// ParseKey reads a private key in PEM: PKCS #8, SEC 1 or PKCS #1. Its errors never quote
// the file.
func ParseKey(path string, data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, fmt.Errorf("%s: the key is encrypted, and a daemon has nobody to ask for the pass phrase: store it in clear, mode 0600 (openssl pkey -in %s -out NEW)", path, path)
		default:
			continue // EC PARAMETERS and the like
		}
		if _, old := block.Headers["DEK-Info"]; old {
			return nil, fmt.Errorf("%s: the key is encrypted, and a daemon has nobody to ask for the pass phrase: store it in clear, mode 0600 (openssl pkey -in %s -out NEW)", path, path)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: the private key in it cannot be read: it is damaged or of an unknown kind", path)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("%s: the private key in it cannot sign", path)
		}
		return signer, nil
	}
	return nil, fmt.Errorf("%s: it holds no whole private key in PEM (-----BEGIN PRIVATE KEY-----)", path)
}

// NewKey makes a private key, and returns it also in PEM (PKCS #8).
func NewKey() (key crypto.Signer, text []byte, err error) {
	// Everything that speaks TLS 1.3 must know P-256: browsers, GnuTLS, security modules
	// and FIPS modes too, which Ed25519 cannot say of itself.
	key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// fileStamp is of a file: as long as it is the same, the file has not changed.
type fileStamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
	err          string
}

func stampOf(path string) fileStamp {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fileStamp{err: err.Error()}
	}
	return fileStamp{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}

// readFile reads one of the files that a Trust is made from.
func readFile(path string, most int64) ([]byte, error) {
	b, err := fsys.ReadTrusted(path, most)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is not there", path)
	}
	return b, err
}
