package authority

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/pki"
)

// The files of the folder.
const (
	CertFile   = "ca.crt"  // the CA's certificate
	KeyFile    = "ca.key"  // its key
	IndexFile  = "index"   // every certificate that was issued
	DenyFile   = "revoked" // the deny list for collectors and forwarders (tls_deny)
	CRLFile    = "ca.crl"  // the revocation list for other software (and tls_crl)
	TokensFile = "tokens"  // what tokens were given
	lockFile   = "lock"
)

// skew is how far a host's clock may be behind when it gets a certificate.
const skew = 5 * time.Minute

// lockWait is how long a command waits for another one in the same folder.
const lockWait = 10 * time.Second

// Config says where a CA is.
type Config struct {
	Dir string
	FS  fsys.FS          // fsys.OS if nil
	Now func() time.Time // time.Now if nil
}

func (c Config) filled() Config {
	if c.FS == nil {
		c.FS = fsys.OS
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func (c Config) path(name string) string { return filepath.Join(c.Dir, name) }

// CA is a certificate authority. Several processes may have the same one open; a lock in
// its folder is held for each change. Any goroutine may call its methods.
type CA struct {
	cfg  Config
	cert *x509.Certificate
	id   string // its fingerprint

	mu    sync.Mutex   // guards what follows; held while the file is read
	known []TokenEntry // as strangers' tokens are compared with; it is never changed
	seen  fs.FileInfo  // of the file that known was read of; nil: of none
}

// Open opens the CA in a folder. The key is read when it is used.
func Open(cfg Config) (*CA, error) {
	cfg = cfg.filled()
	data, err := readFile(cfg.FS, cfg.path(CertFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: there is no CA here (no %s): collector ca init --dir %s makes one", cfg.Dir, CertFile, cfg.Dir)
	}
	if err != nil {
		return nil, err
	}
	// The folder is there: this makes nothing, and refuses one that others may change. Who could
	// put another folder in its place would be the CA.
	if err := cfg.FS.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	list, err := pki.ParseCertificates(cfg.path(CertFile), data)
	if err != nil {
		return nil, err
	}
	if !list[0].IsCA {
		return nil, fmt.Errorf("%s: its certificate is no CA's", cfg.path(CertFile))
	}
	return &CA{cfg: cfg, cert: list[0], id: pki.Fingerprint(list[0])}, nil
}

// Certificate returns the CA's certificate.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// Dir returns the CA's folder.
func (ca *CA) Dir() string { return ca.cfg.Dir }

// Fingerprint returns the SHA-256 of the CA's certificate.
func (ca *CA) Fingerprint() string { return ca.id }

// Init makes a CA with a name of its own and a life in a folder that has none. A run that
// was killed is gone on with: what it has made is never made again.
func Init(ctx context.Context, cfg Config, name string, life time.Duration) (*CA, error) {
	cfg = cfg.filled()
	if len(name) > 64 {
		return nil, fmt.Errorf("the CA's name has %d bytes: 64 are the most", len(name))
	}
	if err := cfg.FS.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := cfg.FS.Size(cfg.path(CertFile)); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s: there is a CA here already, and it is never overwritten: choose another folder", cfg.Dir)
	}
	if list, err := readFile(cfg.FS, cfg.path(IndexFile)); err == nil && len(list) > 0 {
		return nil, fmt.Errorf("%s: there is an index here, and no %s: put that back from a backup, or choose another folder", cfg.Dir, CertFile)
	}
	key, err := initKey(cfg)
	if err != nil {
		return nil, err
	}
	cert, err := selfSigned(name, key, cfg.Now(), life)
	if err != nil {
		return nil, err
	}
	if _, err := cfg.FS.Size(cfg.path(DenyFile)); errors.Is(err, fs.ErrNotExist) {
		if err := fsys.ReplaceOn(cfg.FS, cfg.path(DenyFile), []byte("# A name, a serial or a SHA-256 fingerprint a line; collector ca revoke adds to it.\n"), 0o644); err != nil {
			return nil, err
		}
	}
	// With its certificate it is a CA.
	if err := fsys.ReplaceOn(cfg.FS, cfg.path(CertFile), encode("CERTIFICATE", cert.Raw), 0o644); err != nil {
		return nil, err
	}
	if err := cfg.FS.SyncDir(filepath.Dir(cfg.Dir)); err != nil {
		return nil, err
	}
	return &CA{cfg: cfg, cert: cert, id: pki.Fingerprint(cert)}, nil
}

// initKey makes the key of a new CA, or takes the one that a run left which was killed
// before it wrote the certificate.
func initKey(cfg Config) (crypto.Signer, error) {
	key, err := readKey(cfg)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	fresh, pemKey, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	return fresh, fsys.ReplaceOn(cfg.FS, cfg.path(KeyFile), pemKey, 0o600)
}

func selfSigned(name string, key crypto.Signer, now time.Time, life time.Duration) (*x509.Certificate, error) {
	if name == "" {
		mark := make([]byte, 4)
		rand.Read(mark)
		name = fmt.Sprintf("auditfleet CA %x", mark)
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(), NotBefore: now.Add(-skew).Truncate(time.Second), NotAfter: now.Add(life).Truncate(time.Second),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	template.Subject.CommonName = name
	return create(template, template, key.Public(), key)
}

// readKey reads the CA's key, which nobody but its owner may read.
func readKey(cfg Config) (crypto.Signer, error) {
	path := cfg.path(KeyFile)
	data, err := readFile(cfg.FS, path)
	if err != nil {
		return nil, err
	}
	info, err := cfg.FS.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, &fsys.UnsafeError{Path: path, Why: fmt.Sprintf("its mode is %04o: others may read the CA's key", mode), Fix: "chmod 0600 " + path}
	}
	return pki.ParseKey(path, data)
}

// signer returns the CA's key, after it has looked whether it can be used now.
func (ca *CA) signer() (crypto.Signer, error) {
	now := ca.cfg.Now()
	switch {
	case now.Before(ca.cert.NotBefore):
		return nil, fmt.Errorf("this machine's clock says %s, and the CA in %s begins at %s: set the clock", stamp(now), ca.cfg.Dir, stamp(ca.cert.NotBefore))
	case now.After(ca.cert.NotAfter):
		return nil, fmt.Errorf("the CA in %s expired at %s (it is %s by this machine's clock): make another one, and trust both while hosts change over", ca.cfg.Dir, stamp(ca.cert.NotAfter), stamp(now))
	}
	key, err := readKey(ca.cfg)
	if err != nil {
		return nil, err
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(ca.cert.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of the certificate in %s: put the right one back from a backup", ca.cfg.path(KeyFile), CertFile)
	}
	return key, nil
}

// lock waits for its turn in a folder.
func lock(ctx context.Context, cfg Config) (unlock func(), err error) {
	ctx, stop := context.WithTimeout(ctx, lockWait)
	defer stop()
	for {
		l, err := cfg.FS.Lock(cfg.path(lockFile))
		if err == nil {
			return func() { _ = l.Close() }, nil
		}
		if !errors.Is(err, fsys.ErrLocked) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w for a while now: try again when it is done", cfg.Dir, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// index reads the index; one that is not there has nothing in it yet.
func (ca *CA) index() ([]Entry, error) {
	data, err := readFile(ca.cfg.FS, ca.cfg.path(IndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseIndex(ca.cfg.path(IndexFile), ca.id, data)
}

func (ca *CA) writeIndex(list []Entry) error {
	return fsys.ReplaceOn(ca.cfg.FS, ca.cfg.path(IndexFile), formatIndex(ca.id, list), 0o600)
}

// List returns every certificate that was issued, in the order in which that was.
func (ca *CA) List() ([]Entry, error) { return ca.index() }

// readFile reads one of our own files.
func readFile(f fsys.FS, path string) ([]byte, error) {
	file, err := f.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxTable+1))
	if err == nil && len(data) > maxTable {
		err = fmt.Errorf("%s: it is larger than %d bytes", path, maxTable)
	}
	return data, err
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// newSerial returns 127 random bits, the first of which is set, so that all serials have
// one length.
func newSerial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}

func create(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}
