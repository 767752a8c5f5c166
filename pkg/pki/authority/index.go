package authority

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/pki"
)

// indexKind is the first word of an index.
const indexKind = "auditfleet-ca-index"

// Entry is a certificate that was issued.
type Entry struct {
	Serial      string // as pki.Serial writes it
	Fingerprint string // as pki.Fingerprint writes it
	Name        string
	NotBefore   time.Time
	NotAfter    time.Time
	Roles       pki.Roles
	Revoked     time.Time // zero: it is not
}

// State says what a certificate is at a time: valid, expired or revoked.
func (e Entry) State(now time.Time) string {
	switch {
	case !e.Revoked.IsZero():
		return "revoked"
	case now.After(e.NotAfter):
		return "expired"
	}
	return "valid"
}

const (
	// mostListed is how many entries an index may have before it lets go of some that have expired: a fleet whose
	// certificates live for an hour has as many in two days, and all of it is read and written for each.
	mostListed = 20_000
	// agreeing is how many certificates must have been issued since one expired: the clock may be a wrong one.
	agreeing = 100
)

// unlisted returns a list without those that expired longest ago, where it is too long. What has expired needs no
// revoking and is not renewed.
func unlisted(list []Entry, now time.Time) []Entry {
	drop := len(list) - mostListed*3/4
	if len(list) < mostListed {
		return list
	}
	if at := list[len(list)-agreeing].NotBefore; at.Before(now) {
		now = at
	}
	return slices.DeleteFunc(slices.Clone(list), func(e Entry) bool {
		gone := drop > 0 && now.Sub(e.NotAfter) > keepExpired
		if gone {
			drop--
		}
		return gone
	})
}

func formatIndex(ca string, list []Entry) []byte {
	rows := make([][]string, len(list))
	for i, e := range list {
		rows[i] = []string{e.Serial, e.Fingerprint, e.Name, stamp(e.NotBefore), stamp(e.NotAfter), e.Roles.String(), stampOr(e.Revoked)}
	}
	return formatTable(indexKind, ca, rows)
}

func parseIndex(path, ca string, data []byte) ([]Entry, error) {
	rows, err := parseTable(path, indexKind, ca, 7, data)
	if err != nil {
		return nil, err
	}
	list := make([]Entry, len(rows))
	for i, r := range rows {
		e := Entry{Serial: r[0], Fingerprint: r[1], Name: r[2]}
		var errs [4]error
		e.NotBefore, errs[0] = time.Parse(time.RFC3339, r[3])
		e.NotAfter, errs[1] = time.Parse(time.RFC3339, r[4])
		e.Roles, errs[2] = pki.ParseRoles(r[5])
		if r[6] != "-" {
			e.Revoked, errs[3] = time.Parse(time.RFC3339, r[6])
		}
		if err := errors.Join(errs[:]...); err != nil || strings.Trim(e.Serial, "0123456789abcdef") != "" {
			return nil, &FileError{Path: path, Line: i + 2, Why: "a field cannot be read", Err: ErrDamaged}
		}
		list[i] = e
	}
	return list, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func stampOr(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return stamp(t)
}
