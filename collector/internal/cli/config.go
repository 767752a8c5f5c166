package cli

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/collector/internal/alert"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/collector/internal/sink"
	"github.com/auditfleet/auditfleet/collector/internal/trusted"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/settings"
)

// options has the values of `collector serve`'s settings. table binds each setting to its
// place here: in the server's configuration where that has a field, in auditd for most stock
// keys, which complete copies over.
type options struct {
	server  server.Config
	auditd  conf.Auditd
	file    string // of the configuration; "" for none
	logJSON bool
	check   bool // only check
	// untrusted is untrusted_senders: flag or refuse.
	untrusted  string
	alertSinks string // alert_sinks
}

// networks returns a key for addresses and networks. One that has everybody is refused: it is
// about whom to believe.
func networks(name string, to *[]netip.Prefix) conf.Key {
	var words []string
	list := conf.List(name, &words)
	empty := func() { *to = nil }
	return conf.Key{Name: name, Words: -1, Empty: empty, Get: func() string {
		text := make([]string, len(*to))
		for i, p := range *to {
			if text[i] = p.String(); p.IsSingleIP() {
				text[i] = p.Addr().String()
			}
		}
		return strings.Join(text, ",")
	}, Set: func(v string) error {
		if v == "" { // of a flag
			empty()
			return nil
		}
		if err := list.Set(v); err != nil {
			return err
		}
		parsed := make([]netip.Prefix, len(words))
		for i, word := range words {
			p, err := trusted.Network(word)
			switch {
			case err != nil:
				return err
			case p.Bits() == 0:
				return fmt.Errorf("%s is everybody: name the addresses that are to be believed", word)
			}
			parsed[i] = p
		}
		*to = parsed
		return nil
	}}
}

// newOptions returns options that hold the defaults.
func newOptions() *options {
	o := &options{auditd: conf.DefaultAuditd()}
	o.table().Defaults()
	return o
}

// configure makes a configuration from the defaults, the file that --config names, and the
// flags, each over the one before. The file is nil where none is named; one that can be
// read but has errors is returned with them.
func configure(flags *pflag.FlagSet) (*options, *conf.File, error) {
	o := newOptions()
	table := o.table()
	if err := table.Apply(flags); err != nil {
		return nil, nil, err
	}
	var f *conf.File
	if o.file != "" {
		var err error
		if f, err = conf.LoadSecure(o.file, table.Schema()); f == nil {
			return nil, nil, fmt.Errorf("read the configuration: %w", err)
		}
		if err := o.auditd.Validate(f); err != nil {
			return nil, f, err
		}
		if err := table.Apply(flags); err != nil {
			return nil, nil, err
		}
	}
	return o, f, settings.Placed(o.complete(f, flags.Changed), f, table, flags.Changed)
}

// addresses refuses what can be listened on nowhere. Whether an address is this machine's, and free,
// is known only when it is taken.
func (o *options) addresses() error {
	c := &o.server
	for _, a := range []struct {
		flag string
		list []string
	}{{"listen", c.Listen}, {"listen-tls", c.ListenTLS}, {"grpc", c.GRPC}, {"http", []string{c.HTTP}}} {
		for _, addr := range a.list {
			if a.flag == "http" && addr == "" {
				continue // none
			}
			_, port, err := net.SplitHostPort(addr)
			if err == nil {
				_, err = net.LookupPort("tcp", port)
			}
			if err != nil {
				return fmt.Errorf("--%s %s: want ADDRESS:PORT or :PORT: %w", a.flag, addr, err)
			}
		}
	}
	return nil
}

// complete copies the stock keys' values into the server's configuration, and checks what the
// keys cannot check one by one. given reports whether a flag is on the command line.
func (o *options) complete(f *conf.File, given func(flag string) bool) error {
	c, a := &o.server, &o.auditd
	c.RefuseUntrusted = o.untrusted == "refuse"
	if err := o.preSharedKeys(f); err != nil {
		return err
	}
	if f.Has("tcp_listen_port") && !f.Has("listen") && !given("listen") {
		c.Listen = []string{":" + strconv.Itoa(a.TCPListenPort)}
	}
	if err := o.addresses(); err != nil {
		return err
	}
	if a.NameFormat == conf.NameUser && c.Node == "" {
		c.Node = a.Name
	}
	if strings.ContainsFunc(c.Node, func(r rune) bool { return r <= ' ' || r == 0x7f }) || len(c.Node) > 255 {
		return fmt.Errorf("--node %q: a name is one word of at most 255 bytes", c.Node)
	}
	if c.Space.Reserve == 0 {
		c.Space.Reserve = -1 // to the server 0 is its default
	}
	c.Backlog, c.Limits.MaxIdle = a.TCPListenQueue, a.TCPClientMaxIdle
	c.Limits.MinPort, c.Limits.MaxPort = a.TCPClientPorts.Low, a.TCPClientPorts.High
	c.Flush, c.Freq, c.EventTimeout = journal.Flush(a.Flush), a.Freq, a.EndOfEventTimeout
	c.Space.SpaceLeft, c.Space.SpaceLeftAction = a.SpaceLeft, a.SpaceLeftAction
	c.Space.AdminSpaceLeft, c.Space.AdminSpaceLeftAction = a.AdminSpaceLeft, a.AdminSpaceLeftAction
	c.Space.DiskFullAction, c.Space.DiskErrorAction = a.DiskFullAction, a.DiskErrorAction
	c.Action.MailTo = a.ActionMailAcct
	c.Sinks = sink.Load(o.alertSinks, sink.Names{Conditions: alert.Names(), Labels: alert.Labels()})
	c.Plugins.Settings = dispatch.Settings{Depth: a.QDepth, Overflow: a.OverflowAction.Do, MaxRestarts: a.MaxRestarts}
	if a.DistributeNetwork {
		c.Plugins.List, c.Plugins.Problem = conf.LoadPlugins(a.PluginDir)
	}
	return nil
}
