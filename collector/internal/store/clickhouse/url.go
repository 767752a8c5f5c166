package clickhouse

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Scheme begins the text that names a cluster.
const Scheme = "clickhouse://"

// ErrURL is returned for a text that names no cluster.
var ErrURL = errors.New("not a cluster's name: write clickhouse://HOST:PORT,HOST:PORT/DATABASE?user=NAME&password_file=FILE")

// Address says where a cluster is and how to speak to it. It has no secrets: these are in files.
type Address struct {
	Nodes    []string // HOST:PORT of each server's native protocol
	Database string
	User     string
	Password string // the file that has it; "": none is needed
	Shards   int    // how many there are
	Quorum   int    // how many replicas of a shard must have what is stored; 0: more than half of them
	TLS      bool
	CA       string // the file of the CAs that sign servers' certificates; "": the system's
	Cert     string // the files of our certificate and its key; "": none
	Key      string
}

// database is what a database may be called: it stands in SQL and in paths of ZooKeeper.
var database = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// Parse reads clickhouse://HOST:PORT,…/DATABASE?OPTIONS. The options are user, password_file, shards, quorum, tls (yes or no), ca,
// cert and key. Errors wrap ErrURL. It reads no file.
func Parse(text string) (*Address, error) {
	wrong := func(format string, args ...any) (*Address, error) {
		return nil, fmt.Errorf("%w: %s", ErrURL, fmt.Sprintf(format, args...))
	}
	rest, ok := strings.CutPrefix(text, Scheme)
	if !ok {
		return wrong("it does not begin with %s", Scheme)
	}
	rest, words, _ := strings.Cut(rest, "?")
	hosts, db, _ := strings.Cut(rest, "/")
	if strings.Contains(hosts, "@") {
		return wrong("a user is named by user=NAME, a password is in the file of password_file=FILE: others see a program's words")
	}
	a := &Address{Database: db, User: "default", Shards: 1}
	for _, h := range strings.Split(hosts, ",") {
		host, port, err := net.SplitHostPort(h)
		n, perr := strconv.ParseUint(port, 10, 16)
		switch {
		case err != nil || perr != nil || n == 0 || host == "":
			return wrong("%.100q is not HOST:PORT", h)
		case slices.Contains(a.Nodes, h):
			return wrong("%s is there twice", h)
		}
		a.Nodes = append(a.Nodes, h)
	}
	if !database.MatchString(db) {
		return wrong("%.100q is no database's name: letters, digits and underscores", db)
	}
	options, err := url.ParseQuery(words)
	if err != nil {
		return wrong("its options: %v", err)
	}
	for name, values := range options {
		if len(values) != 1 {
			return wrong("%s is there %d times", name, len(values))
		}
		if err := a.set(name, values[0]); err != nil {
			return wrong("%v", err)
		}
	}
	switch {
	case (a.Cert == "") != (a.Key == ""):
		return wrong("cert=FILE and key=FILE go together")
	case !a.TLS && (a.CA != "" || a.Cert != ""):
		return wrong("ca, cert and key are for tls=yes")
	case a.Shards > len(a.Nodes):
		return wrong("%d shards on %d servers", a.Shards, len(a.Nodes))
	case len(a.Nodes)%a.Shards != 0 && a.Quorum == 0: // how many are more than half of a shard's would not be known
		return wrong("%d servers of %d shards: name as many of each, all that there are, or say with quorum= how many must have what is stored", len(a.Nodes), a.Shards)
	}
	return a, nil
}

// set takes an option.
func (a *Address) set(name, value string) (err error) {
	number := func(to *int) error {
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("%s=%.50q is no number", name, value)
		}
		*to = int(n)
		return nil
	}
	switch name {
	case "user":
		a.User = value
	case "password_file":
		a.Password = value
	case "shards":
		return number(&a.Shards)
	case "quorum":
		return number(&a.Quorum)
	case "tls":
		if value != "yes" && value != "no" {
			return fmt.Errorf("tls=%.50q is neither yes nor no", value)
		}
		a.TLS = value == "yes"
	case "ca":
		a.CA = value
	case "cert":
		a.Cert = value
	case "key":
		a.Key = value
	case "password":
		return errors.New("a password is in the file of password_file=FILE: others see a program's words")
	default:
		return fmt.Errorf("%.50q is no option: there are user, password_file, shards, quorum, tls, ca, cert and key", name)
	}
	return nil
}

// String is the text of the database, without options.
func (a *Address) String() string {
	return Scheme + strings.Join(a.Nodes, ",") + "/" + a.Database
}

// maxSecret is the size of the largest file of a password.
const maxSecret = 4096

// secrets reads the files that the address names.
func (a *Address) secrets() (password string, t *tls.Config, err error) {
	if a.Password != "" {
		b, err := os.ReadFile(a.Password)
		if err != nil {
			return "", nil, fmt.Errorf("password_file: %w", err)
		}
		if password = strings.TrimRight(string(b), "\r\n"); password == "" || len(b) > maxSecret {
			return "", nil, fmt.Errorf("password_file: %s has no password in its one line", a.Password)
		}
	}
	if !a.TLS {
		return password, nil, nil
	}
	t = &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CA != "" {
		b, err := os.ReadFile(a.CA)
		if err != nil {
			return "", nil, fmt.Errorf("ca: %w", err)
		}
		if t.RootCAs = x509.NewCertPool(); !t.RootCAs.AppendCertsFromPEM(b) {
			return "", nil, fmt.Errorf("ca: %s has no certificate", a.CA)
		}
	}
	if a.Cert != "" {
		pair, err := tls.LoadX509KeyPair(a.Cert, a.Key)
		if err != nil {
			return "", nil, fmt.Errorf("cert and key: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return password, t, nil
}
