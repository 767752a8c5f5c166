package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/settings"
)

// defaultClient is where commands that ask look for their settings, if there is such a file; clientEnv names another
// file, or "" for none.
const (
	defaultClient = "/etc/auditfleet/client.conf"
	clientEnv     = "AUDITFLEET_CLIENT"
)

// client is how commands ask collectors: what nobody wants to type each time.
type client struct {
	also  []string
	wait  time.Duration
	tls   pki.Config
	known map[string]pki.Config // by HOST:PORT: as whom only that collector is asked
}

// table returns the settings, bound to c.
func (c *client) table() settings.Table {
	lines := []string{}
	return settings.Table{{Title: "Of commands that ask", List: []settings.Setting{
		{Key: hostPorts("also", &c.also), In: settings.FileOnly, Arg: "HOST:PORT[,HOST:PORT]", Example: "eu.example.net:6060,us.example.net:6060",
			Doc: "Collectors that search, report, last, lastlog, coverage and hosts ask as well, by their gRPC ports.\n" +
				"`--also none` leaves them out."},
		{Key: conf.Duration("also_wait", &c.wait, time.Second, time.Hour), In: settings.FileOnly, Default: "30s", Arg: "DURATION",
			Doc: "How long each of several collectors may answer nothing.\n" +
				"The answer goes on without it then, and says what it lacks."},
		{Key: conf.Path("tls_ca", &c.tls.CA), In: settings.FileOnly, Arg: "FILE", Example: "/etc/auditfleet/ca.pem",
			Doc: "Certificates of the CAs by which collectors elsewhere are known; --tls-ca."},
		{Key: conf.Path("tls_cert", &c.tls.Cert), In: settings.FileOnly, Arg: "FILE", Example: "/etc/auditfleet/reader.pem",
			Doc: "The certificate of who asks; --tls-cert.\n" +
				"Each collector decides by its own CAs and roles what it may read."},
		{Key: conf.Path("tls_key", &c.tls.Key), In: settings.FileOnly, Arg: "FILE", Example: "/etc/auditfleet/reader.key", Doc: "Its key; --tls-key."},
		{Key: conf.Key{Name: "identity", Words: -1, Each: true, Get: func() string { return strings.Join(lines, ", ") }, Set: func(v string) error {
			lines = append(lines, v)
			return c.identify(v)
		}}, In: settings.FileOnly, Arg: "HOST:PORT CERT KEY [CA]", Example: "us.example.net:6060 /etc/auditfleet/us.pem /etc/auditfleet/us.key",
			Doc: "As whom one collector is asked, where that is not tls_cert: its HOST:PORT as also or --server has it, certificate, key, and its CA where that is not tls_ca.\n" +
				"A line for each."},
	}}}
}

// hostPorts is a list of HOST:PORT.
func hostPorts(name string, to *[]string) conf.Key {
	key := conf.List(name, to)
	set := key.Set
	key.Set = func(v string) error {
		if err := set(v); err != nil {
			return err
		}
		for _, one := range *to {
			if !hasPort(one) {
				return fmt.Errorf("%.200q is not HOST:PORT: the port is that of the collector's --grpc", one)
			}
		}
		return nil
	}
	return key
}

// identify takes a line of identity.
func (c *client) identify(line string) error {
	w := strings.Fields(line)
	if len(w) < 3 || len(w) > 4 || !hasPort(w[0]) || slices.ContainsFunc(w[1:], func(path string) bool { return !strings.HasPrefix(path, "/") }) {
		return errors.New("it is HOST:PORT CERT KEY [CA], the files with their whole paths")
	}
	if _, ok := c.known[w[0]]; ok {
		return fmt.Errorf("%s has another line already", w[0])
	}
	if c.known == nil {
		c.known = map[string]pki.Config{}
	}
	as := pki.Config{Cert: w[1], Key: w[2]}
	if len(w) == 4 {
		as.CA = w[3]
	}
	c.known[w[0]] = as
	return nil
}

// loadClient reads the settings of commands that ask: defaults where there is no file.
func loadClient() (*client, error) {
	c := &client{}
	table := c.table()
	table.Defaults()
	path, given := os.LookupEnv(clientEnv)
	if !given {
		path = defaultClient
	}
	if path == "" {
		return c, nil
	}
	_, err := conf.LoadLinked(path, table.Schema())
	if errors.Is(err, fs.ErrNotExist) && !given {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("settings of who asks: %w", err)
	}
	return c, nil
}

// identity is as whom a collector is asked: as one line says of it, as the command line does, or as all are.
func (c *client) identity(server string, given pki.Config) (pki.Config, error) {
	as := c.tls
	if given.CA != "" || given.Cert != "" || given.Key != "" {
		as = given
	}
	if own, ok := c.known[server]; ok {
		own.CA = cmp.Or(own.CA, as.CA)
		as = own
	}
	if as.CA == "" || as.Cert == "" || as.Key == "" {
		return as, fmt.Errorf("%.200s needs --tls-ca, --tls-cert and --tls-key, or these in collector-client.conf(5): a certificate that may read (`collector ca issue NAME --role read`)", server)
	}
	return as, nil
}

// identity is as whom a collector is asked, by the command line and client.conf.
func identity(server string, given pki.Config) (pki.Config, error) {
	c, err := loadClient()
	if err != nil {
		return pki.Config{}, err
	}
	return c.identity(server, given)
}
