package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// NameFormat is auditd.conf's name_format: what node= says.
type NameFormat uint8

const (
	NameNone     NameFormat = iota // no node=
	NameHostname                   // what gethostname says
	NameFQD                        // the resolver's canonical name for it
	NameNumeric                    // the first address it resolves to
	NameUser                       // the name given
)

// ParseNameFormat parses auditd.conf's words for name_format; fqdn means fqd, too.
func ParseNameFormat(s string) (NameFormat, error) {
	switch strings.ToLower(s) {
	case "none":
		return NameNone, nil
	case "hostname":
		return NameHostname, nil
	case "fqd", "fqdn":
		return NameFQD, nil
	case "numeric":
		return NameNumeric, nil
	case "user":
		return NameUser, nil
	}
	return 0, fmt.Errorf("name_format: %q is none of none, hostname, fqd, numeric, user", s)
}

// ErrNodeName is returned for a node name that could not stand as one word in a record.
var ErrNodeName = errors.New("not a node name")

// ErrLookup is returned while the resolver does not answer for this host's name: it may soon.
var ErrLookup = errors.New("this host's name can't be looked up")

// Node returns the node name for a format, "" for none. name is the one that is configured,
// for NameUser. It may ask the resolver and wait for it until ctx ends.
func Node(ctx context.Context, format NameFormat, name string) (string, error) {
	switch format {
	case NameNone:
		return "", nil
	case NameUser:
		if name == "" {
			return "", fmt.Errorf("%w: name_format = user needs name", ErrNodeName)
		}
		return name, checkNode(name)
	case NameHostname, NameFQD, NameNumeric:
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("node name: %w", err)
	}
	if format == NameHostname {
		return host, checkNode(host)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var r net.Resolver
	if format == NameFQD {
		fqdn, err := r.LookupCNAME(ctx, host)
		if err != nil {
			return "", fmt.Errorf("name_format = fqd: %w: %w", ErrLookup, err)
		}
		fqdn = strings.TrimSuffix(fqdn, ".")
		return fqdn, checkNode(fqdn)
	}
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return "", fmt.Errorf("name_format = numeric: %w: %w", ErrLookup, err)
	}
	if len(addrs) == 0 {
		return "", fmt.Errorf("name_format = numeric: %w: %s has no address", ErrLookup, host)
	}
	return addrs[0].Unmap().String(), nil
}

// checkNode refuses what would end the field or the line.
func checkNode(s string) error {
	if s == "" || len(s) > 255 {
		return fmt.Errorf("%w: %q: want 1 to 255 bytes", ErrNodeName, s)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r == '"' || r == '\'' || r == '=' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("%w: %q has a space, quote, '=' or control character", ErrNodeName, s)
	}
	return nil
}

var nodePrefix = []byte("node=")

// hasNode reports whether a line says its node already.
func hasNode(line []byte) bool { return bytes.HasPrefix(line, nodePrefix) }
