package authority

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// ErrUnknown is returned when a name, serial or token is not listed.
var ErrUnknown = errors.New("is not listed")

// Revoke revokes a certificate by its serial, or all of a name, in the index, in the deny list
// and in the revocation list. It returns those that are revoked now, also with ErrCRL; fresh
// says how many were not before. What has expired stays as it is.
func (ca *CA) Revoke(ctx context.Context, who string) (now []Entry, fresh int, err error) {
	unlock, err := lock(ctx, ca.cfg)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	list, err := ca.index()
	if err != nil {
		return nil, 0, err
	}
	serial := strings.ReplaceAll(strings.ToLower(who), ":", "")
	name := strings.TrimSuffix(strings.ToLower(who), ".")
	at := ca.cfg.Now().Truncate(time.Second)
	known := false
	for i := range list {
		e := &list[i]
		if e.Serial != serial && e.Name != name {
			continue
		}
		known = true
		if e.Revoked.IsZero() && !at.After(e.NotAfter) {
			e.Revoked = at
			fresh++
		}
		if !e.Revoked.IsZero() {
			now = append(now, *e)
		}
	}
	if !known {
		return nil, 0, fmt.Errorf("%.100q %w: collector ca list --dir %s has the names and serials", who, ErrUnknown, ca.cfg.Dir)
	}
	if fresh > 0 {
		if err := ca.writeIndex(list); err != nil {
			return nil, 0, err
		}
	}
	if err := ca.writeDeny(list); err != nil {
		return now, fresh, err
	}
	if len(now) == 0 {
		return nil, 0, nil
	}
	return now, fresh, ca.listRevoked(list, fresh) // last: it needs the key
}

// writeDeny adds to the deny list what is revoked and not in it. What else stands there, an
// administrator has written.
func (ca *CA) writeDeny(list []Entry) error {
	path := ca.cfg.path(DenyFile)
	data, err := readFile(ca.cfg.FS, path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	has := map[string]bool{}
	for line := range bytes.Lines(data) {
		word, _, _ := strings.Cut(string(line), "#")
		has[strings.ToLower(strings.TrimSpace(word))] = true
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(data, '\n')
	}
	before := len(data)
	for _, e := range list {
		if !e.Revoked.IsZero() && !has[e.Serial] && !ca.cfg.Now().After(e.NotAfter) {
			data = fmt.Appendf(data, "%s # %s, revoked %s\n", e.Serial, e.Name, stamp(e.Revoked))
		}
	}
	if len(data) == before {
		return nil
	}
	return fsys.ReplaceOn(ca.cfg.FS, path, data, 0o644)
}

// Deny returns where the deny list is.
func (ca *CA) Deny() string { return ca.cfg.path(DenyFile) }
