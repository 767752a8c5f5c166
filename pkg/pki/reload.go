package pki

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"time"
)

// ownPart is what a Trust says of itself; peers do not depend on it.
const ownPart = "certificate and key"

// part is one thing that is read from files, and replaced as a whole: that one is wrong must
// not keep another one, such as the deny list, from being read.
type part struct {
	what  string
	paths []string
	read  func(data [][]byte, next *snapshot) error // sets the part in next
	load  []func(path string) ([]byte, error)       // for each path

	stamps    []fileStamp
	unsettled bool // the files were written so recently that another write may have left the same stamps
	digest    [sha256.Size]byte
	complaint string // what was said of it last
}

// newParts lists what a Trust reads, in an order in which each may need those before it.
func (t *Trust) newParts() []*part {
	cfg := t.cfg
	most := func(n int64) func(string) ([]byte, error) {
		return func(path string) ([]byte, error) { return readFile(path, n) }
	}
	parts := []*part{{
		what: "CAs", paths: []string{cfg.CA}, load: []func(string) ([]byte, error){most(maxCertificates)},
		read: func(data [][]byte, next *snapshot) (err error) {
			if next.cas, err = parseCAs(cfg.CA, data[0]); err != nil {
				return err
			}
			next.pool = x509.NewCertPool()
			for _, c := range next.cas {
				next.pool.AddCert(c)
			}
			return nil
		},
	}}
	if cfg.Cert != "" {
		parts = append(parts, &part{
			what: ownPart, paths: []string{cfg.Cert, cfg.Key}, load: []func(string) ([]byte, error){most(maxCertificates), ReadKey},
			read: func(data [][]byte, next *snapshot) (err error) {
				next.pair, err = parsePair(cfg.Cert, data[0], cfg.Key, data[1])
				return err
			},
		})
	}
	if cfg.Deny != "" {
		parts = append(parts, &part{
			what: "deny list", paths: []string{cfg.Deny}, load: []func(string) ([]byte, error){most(maxList)},
			read: func(data [][]byte, next *snapshot) (err error) {
				next.deny, err = parseDenyList(cfg.Deny, data[0])
				return err
			},
		})
	}
	if cfg.CRL != "" {
		parts = append(parts, &part{
			what: "revocation list", paths: []string{cfg.CRL}, load: []func(string) ([]byte, error){most(maxList)},
			read: func(data [][]byte, next *snapshot) (err error) {
				next.revoked, err = parseCRLs(cfg.CRL, data[0], next.cas, t.cfg.Now())
				return err
			},
		})
	}
	return parts
}

// Reload reads all files again, whether they have changed or not. What is wrong stays as it
// was, and is in the error.
func (t *Trust) Reload() error { return t.read(true) }

// Run looks each second whether a file has changed, and reads it then; it ends sessions that
// are held and whose peers are no longer allowed. It returns when ctx ends.
func (t *Trust) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			t.poll()
		}
	}
}

// poll reads the files that have changed, and ends what is over.
func (t *Trust) poll() {
	_ = t.read(false) // has been logged
	t.expire()
}

// read reads the parts that have changed, or all.
func (t *Trust) read(all bool) error {
	t.reading.Lock()
	defer t.reading.Unlock()
	old := t.current.Load()
	next := *old
	next.number++
	var errs []error
	var changed []string
	for _, p := range t.parts {
		// What was wrong may be right with what has changed before it: a revocation list with
		// the CA that signed it.
		if again := p.complaint != "" && len(changed) > 0; !all && !again && !p.changed() {
			continue
		}
		before := next
		fresh, err := p.readInto(&next)
		switch {
		case err != nil:
			next = before
			errs = append(errs, err)
			if old.number > 0 && err.Error() != p.complaint {
				t.cfg.Logger.Warn("TLS: a file has changed and is wrong: what was read before stays in use", "what", p.what, "reason", err)
			}
			p.complaint = err.Error()
		case fresh:
			p.complaint = ""
			changed = append(changed, p.what)
		default:
			next = before
			if p.complaint != "" {
				t.cfg.Logger.Info("TLS: a file that was wrong is again as it was read before", "what", p.what)
			}
			p.complaint = ""
		}
	}
	err := errors.Join(errs...)
	if len(changed) == 0 || old.number == 0 && err != nil {
		return err
	}
	t.current.Store(&next)
	if old.number > 0 {
		t.say(changed, &next)
		if len(changed) > 1 || changed[0] != ownPart {
			t.sweep()
		}
	}
	return err
}

// changed reports whether the files of a part may be others than those that were read.
func (p *part) changed() bool {
	if p.unsettled {
		return true
	}
	for i, path := range p.paths {
		if stampOf(path) != p.stamps[i] {
			return true
		}
	}
	return false
}

// readInto reads a part into next. fresh is false where the files say what they said before.
func (p *part) readInto(next *snapshot) (fresh bool, err error) {
	// Stamps are taken before the bytes: a write between both makes the part look changed.
	p.stamps, p.unsettled = p.stamps[:0], false
	for _, path := range p.paths {
		s := stampOf(path)
		p.stamps = append(p.stamps, s)
		// A filesystem's clock ticks up to every two seconds.
		if age := time.Since(time.Unix(s.mtime.Unix())); s.err == "" && age < 2*time.Second && age > -time.Minute {
			p.unsettled = true
		}
	}
	sum := sha256.New()
	data := make([][]byte, len(p.paths))
	for i, path := range p.paths {
		if data[i], err = p.load[i](path); err != nil {
			return false, err
		}
		one := sha256.Sum256(data[i])
		sum.Write(one[:])
	}
	digest := [sha256.Size]byte(sum.Sum(nil))
	if digest == p.digest {
		return false, nil
	}
	if err := p.read(data, next); err != nil {
		return false, err
	}
	p.digest = digest
	return true, nil
}

// say logs what has been read again.
func (t *Trust) say(changed []string, s *snapshot) {
	args := []any{"what", changed}
	if s.pair != nil {
		args = append(args, "certificate", Serial(s.pair.leaf.SerialNumber), "expires", stamp(s.pair.leaf.NotAfter))
	}
	t.cfg.Logger.Info("TLS: files have changed and are in use", args...)
	t.warn(s)
}
