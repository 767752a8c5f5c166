package cli

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/pkg/conf"
)

// reload reads the configuration anew, under the same flags.
func (a *administered) reload() (waiting []string, err error) {
	cfg, f, err := configAgain(a.file, a.flags)
	if err != nil {
		a.s.NotReconfigured()
		return nil, err
	}
	if err := a.s.Reconfigure(cfg); err != nil {
		return nil, err
	}
	sayFile(a.log, f)
	return changed(&a.began, &cfg), nil
}

// atStart are the keys that a collector acts on when it starts, and what each is.
// All others are read again at SIGHUP.
var atStart = []struct {
	key string
	of  func(c *server.Config) any
}{
	{"store", func(c *server.Config) any { return c.Store }},
	{"listen", func(c *server.Config) any { return strings.Join(c.Listen, " ") }},
	{"tcp_listen_queue", func(c *server.Config) any { return c.Backlog }},
	{"api", func(c *server.Config) any { return c.API }},
	{"api_group", func(c *server.Config) any { return c.APIGroup }},
	{"http", func(c *server.Config) any { return c.HTTP }},
	{"node", func(c *server.Config) any { return c.Node }},
	{"state_file", func(c *server.Config) any { return c.StateFile }},
	{"flush", func(c *server.Config) any { return c.Flush }},
	{"freq", func(c *server.Config) any { return c.Freq }},
	{"max_in_flight", func(c *server.Config) any { return c.MaxInFlight }},
	{"max_in_flight_total", func(c *server.Config) any { return c.MaxTotal }},
	{"max_open_bytes_per_host", func(c *server.Config) any { return c.OpenPerHost }},
	{"max_open_events_per_host", func(c *server.Config) any { return c.OpenEvents }},
	{"max_open_events", func(c *server.Config) any { return c.OpenEventsIn }},
	{"max_open_age", func(c *server.Config) any { return c.OpenAge }},
	{"max_open_bytes", func(c *server.Config) any { return c.OpenTotal }},
	{"end_of_event_timeout", func(c *server.Config) any { return c.EventTimeout }},
	{"max_hosts", func(c *server.Config) any { return c.MaxHosts }},
	{"max_new_names", func(c *server.Config) any { return c.NewNames }},
	{"metric_hosts", func(c *server.Config) any { return c.MetricHosts }},
	{"drain_timeout", func(c *server.Config) any { return c.DrainTimeout }},
	{"action_mail_acct", func(c *server.Config) any { return c.Action.MailTo }},
	{"log_level", func(c *server.Config) any { return c.LogLevel }},
}

// changed names the keys of atStart in which two configurations differ.
func changed(was, is *server.Config) (keys []string) {
	for _, k := range atStart {
		if k.of(was) != k.of(is) {
			keys = append(keys, k.key)
		}
	}
	return keys
}

func configAgain(file string, flags *pflag.FlagSet) (server.Config, *conf.File, error) {
	o := defaultOptions()
	again := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.addFlags(again)
	var setErr error
	flags.Visit(func(f *pflag.Flag) {
		if again.Lookup(f.Name) != nil && setErr == nil {
			setErr = copyFlag(again, f)
		}
	})
	if setErr != nil {
		return server.Config{}, nil, setErr
	}
	f, err := o.load(file, again)
	if err != nil {
		return server.Config{}, nil, err
	}
	cfg, err := o.config()
	return cfg, f, err
}

// copyFlag gives a flag of another set the same value.
func copyFlag(to *pflag.FlagSet, f *pflag.Flag) error {
	if slice, ok := f.Value.(pflag.SliceValue); ok {
		return to.Set(f.Name, strings.Join(slice.GetSlice(), ","))
	}
	return to.Set(f.Name, f.Value.String())
}
