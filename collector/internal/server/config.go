package server

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/listen"
	"github.com/auditfleet/auditfleet/collector/internal/retention"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/pkg/action"
)

// Config is a collector's.
type Config struct {
	Store   string   // folder; made when it is not there
	Listen  []string // host:port, each
	Backlog int      // tcp_listen_queue
	Limits  listen.Limits

	Flush journal.Flush // sync when empty
	Freq  int           // of the incremental modes

	API      string // unix socket; "" is collector.sock in Store
	APIGroup string // who may ask beside root; "" is nobody
	HTTP     string // host:port of /metrics; "" is none
	// Pages are what is served on HTTP beside /metrics, /healthz and /readyz, by patterns
	// of net/http ("GET /hosts/"). What they show of events they ask the query API for, which
	// bounds it and decides who may.
	Pages map[string]http.Handler

	Node         string        // the name our own records are stored under; "" is the host name
	EventTimeout time.Duration // end_of_event_timeout; 0 is 2 s
	MaxHosts     int           // hosts told apart; 0 is the head's default
	NewNames     int           // names that an address adds a day; 0 is the head's default, negative any number
	MetricHosts  int           // hosts with series of their own; 0 is DefaultMetricHosts
	OpenPerHost  int64         // memory of a host's open events; 0 is the head's default
	OpenTotal    int64         // of all hosts'; 0 is the head's default
	OpenEvents   int           // open events of a host; 0 is the head's default
	OpenEventsIn int           // open events of all hosts; 0 is the head's default
	OpenAge      time.Duration // how long an event may be open; 0 is the head's default
	MaxInFlight  int           // bytes received and not acknowledged, of a connection; 0 is remote's default
	MaxTotal     int64         // the same of all connections together; 0 is intake's default
	DrainTimeout time.Duration // of a clean stop; 0 is DefaultDrainTimeout

	Space     space.Limits
	Retention retention.Limits
	HostsFile string        // names of addresses, in the grammar of /etc/hosts; "" is none
	Action    action.Config // who gets mail, and whether single and halt are allowed
	Plugins   Plugins
	StateFile string // of the report at SIGCONT; "" is collector.state in Store

	Version  string
	LogLevel string // of Log, as configured
	Log      hclog.Logger
	Now      func() time.Time // nil: time.Now
	// Notify tells the service manager, in the words of sd_notify(3); nil for none.
	Notify func(state string)

	free func() (free, total uint64, err error) // of the store's disk; tests'
}

// Defaults of Config.
const (
	DefaultMetricHosts  = 1000
	DefaultDrainTimeout = 30 * time.Second
	// APISocket is the socket's name in the store's folder.
	APISocket = "collector.sock"
)

func (c *Config) defaults() error {
	if c.Store == "" {
		return errors.New("no store: give --store DIR")
	}
	abs, err := filepath.Abs(c.Store)
	if err != nil {
		return fmt.Errorf("find the store: %w", err)
	}
	c.Store = abs
	if c.Log == nil {
		c.Log = hclog.NewNullLogger()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Flush == "" {
		c.Flush = journal.FlushSync
	}
	if c.Node == "" {
		if c.Node, err = os.Hostname(); err != nil {
			return fmt.Errorf("find this machine's name: %w", err)
		}
	}
	if c.API == "" {
		c.API = filepath.Join(c.Store, APISocket)
	}
	if c.OpenTotal == 0 {
		c.OpenTotal = head.DefaultOpenBytes
	}
	if c.MetricHosts == 0 {
		c.MetricHosts = DefaultMetricHosts
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.Notify == nil {
		c.Notify = func(string) {}
	}
	return nil
}

// action is what actions are done with.
func (c *Config) action() action.Config {
	a := c.Action
	a.Log = c.Log.Named("action")
	return a
}
