package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/proto/enroll"
)

// Renewer renews a host's certificate by itself, once two thirds of its life are over. The
// key stays, so that one file is replaced, at once: certificate and key always belong
// together.
type Renewer struct {
	Trust     *pki.Trust // has the certificate, and follows its file
	Cert, Key string     // the files
	Servers   []string   // HOST:PORT, each, the preferred one first
	Log       hclog.Logger
	Now       func() time.Time // time.Now if nil
}

// Bounds of the pauses between attempts.
const (
	minPause = time.Minute
	maxPause = time.Hour
)

// Run renews until ctx ends. What does not work is logged and tried again, more often as
// the end comes near.
func (r *Renewer) Run(ctx context.Context) {
	now := r.Now
	if now == nil {
		now = time.Now
	}
	tried := false
	for {
		wait := until(r.Trust.Certificate(), now())
		if tried && wait <= 0 { // it did not work, or this clock is far ahead of the collector's
			wait = pause(r.Trust.Certificate(), now())
		}
		timer := time.NewTimer(min(max(wait, 0), maxPause)) // looks again each hour: the file may be another one
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		_ = r.Trust.Reload() // who connects says what is wrong with the files
		if tried = until(r.Trust.Certificate(), now()) <= 0; tried {
			r.try(ctx)
		}
	}
}

// try renews the certificate, and says how that went.
func (r *Renewer) try(ctx context.Context) {
	cert, err := r.once(ctx)
	switch {
	case err == nil:
		r.Log.Info("the certificate was renewed", "file", r.Cert, "serial", pki.Serial(cert.SerialNumber), "expires", cert.NotAfter.UTC().Format(time.RFC3339))
	case ctx.Err() == nil:
		expires := r.Trust.Certificate().NotAfter.UTC().Format(time.RFC3339)
		r.Log.Warn("the certificate could not be renewed: renew it by hand, or have the collector issue certificates (enroll_ca)", "file", r.Cert, "expires", expires, "reason", err)
	}
}

// until returns how long a certificate need not be renewed: until two thirds of its life are
// over, and up to a twentieth less, by its name, so that a fleet that was set up in an hour
// does not come in one.
func until(c *x509.Certificate, now time.Time) time.Duration {
	if c == nil {
		return maxPause
	}
	life := c.NotAfter.Sub(c.NotBefore)
	h := fnv.New32a()
	for _, name := range c.DNSNames {
		_, _ = h.Write([]byte(name))
	}
	early := time.Duration(float64(life) / 20 * float64(h.Sum32()) / (1 << 32))
	return c.NotBefore.Add(life*2/3 - early).Sub(now)
}

// pause returns how long to wait after a failure: a twentieth of what is left.
func pause(c *x509.Certificate, now time.Time) time.Duration {
	return min(max(c.NotAfter.Sub(now)/20, minPause), maxPause)
}

// once asks one server after the other for another certificate, and puts it in place.
func (r *Renewer) once(ctx context.Context) (*x509.Certificate, error) {
	text, err := pki.ReadKey(r.Key)
	if err != nil {
		return nil, err
	}
	key, err := pki.ParseKey(r.Key, text)
	if err != nil {
		return nil, err
	}
	old := r.Trust.Certificate()
	if old == nil || len(old.DNSNames) == 0 {
		return nil, errors.New("it names no host: only certificates of collector ca are renewed")
	}
	request, err := newRequest(old.DNSNames[0], key)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, server := range r.Servers {
		cfg := r.Trust.Client(pki.ServerOf(server), enroll.Renew)
		_, chain, err := exchange(ctx, server, cfg, r.Trust.Explain, &enroll.Request{Request: request})
		var leaf *x509.Certificate
		if err == nil {
			leaf, err = check(chain, r.Trust.CAs(), key.Public(), old.DNSNames[0])
		}
		if err == nil {
			return leaf, r.replace(encode(chain))
		}
		errs = append(errs, err)
	}
	if errs == nil {
		errs = append(errs, errors.New("there is no collector to ask"))
	}
	return nil, errors.Join(errs...)
}

// replace puts a certificate in the place of the old one, with its mode.
func (r *Renewer) replace(text []byte) error {
	path, err := filepath.EvalSymlinks(r.Cert) // a link stays
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := fsys.Replace(path, text, info.Mode().Perm(), true); err != nil {
		return fmt.Errorf("put the new certificate in place: %w", err)
	}
	return r.Trust.Reload()
}
