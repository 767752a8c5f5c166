package server

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/alert"
	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/journal"
	"github.com/auditfleet/auditfleet/collector/internal/listen"
	"github.com/auditfleet/auditfleet/collector/internal/retention"
	"github.com/auditfleet/auditfleet/collector/internal/sink"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/psktls"
	"github.com/auditfleet/auditfleet/pkg/service"
)

// Config is a collector's.
type Config struct {
	// Store is the folder of the store, made when it is not there; or a cluster that keeps the events (engine.IsCluster), and
	// StoreFolder the folder of all else, DefaultStore where it is "".
	Store, StoreFolder string
	// ClusterName is how this collector is called among those that keep events in one cluster, Node where it is ""; ClusterAddress is HOST:PORT
	// where these reach its gRPC port, "" the first of GRPC, on the host Node where that is all addresses.
	ClusterName, ClusterAddress string
	Listen                      []string // host:port, each, in clear text; none for no clear text
	// ListenTLS is likewise, for the audisp-remote protocol over TLS with certificates.
	ListenTLS []string
	// PSK, where it is not nil, has Listen take TLS with pre-shared keys in place of clear
	// text.
	PSK *psktls.Settings
	// TLS says by which files who is known; needed where TLS is asked for.
	TLS pki.Config
	// EnrollCA is the folder of the CA that hosts get certificates of where TLS is; empty:
	// they get none.
	EnrollCA string
	Backlog  int // tcp_listen_queue
	Limits   listen.Limits
	// Proxies are where proxies connect to Listen from, each with a PROXY header.
	Proxies []netip.Prefix
	// TLSProxies are likewise those of ListenTLS and GRPC: the header is in front of TLS.
	TLSProxies []netip.Prefix

	GRPC        []string // host:port, each, for forwarders of ours; none is none
	GRPCPerAddr int      // connections of an address; 0 is ingest/grpc's default
	MaxAnswer   int64    // bytes of an answer to a client of another machine; 0 is ingest/grpc's default

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
	// Compact has days compacted in the background, as Compaction says.
	Compact    bool
	Compaction store.Compaction
	Alerts     alert.Config // the zero one is alert.DefaultConfig
	HostsFile  string       // names of addresses, in the grammar of /etc/hosts; "" is none
	// SealKey is the file of the key that signs the store's log; "" signs nothing. SealInterval is how often at
	// least, when anything changed; 0 is seal's default.
	SealKey      string
	SealInterval time.Duration
	SealProves   SealProves // "" is ProveFrames
	// TrustedSenders is the file that says which names senders in clear text may use from
	// which addresses; "" trusts all. RefuseUntrusted refuses addresses that it lacks.
	TrustedSenders  string
	RefuseUntrusted bool
	Action          action.Config // who gets mail, and whether single and halt are allowed
	Plugins         Plugins
	Sinks           sink.Config // where alerts go
	StateFile       string      // of the report at SIGCONT; "" is collector.state in Store

	Version string
	Commit  string // that it was built of; "" where that is not known
	// CoverageJSON is what the coverage in bundles of evidence is written by.
	CoverageJSON CoverageJSON
	LogLevel     string // of Log, as configured
	Log          hclog.Logger
	Now          func() time.Time // nil: time.Now
	// Service is the service manager that has started the program; nil for none.
	Service *service.Manager
	// Stop ends a start that is not over once it is closed, with ErrStopped; nil: nothing does.
	Stop <-chan struct{}

	cluster string                                 // of Store
	free    func() (free, total uint64, err error) // of the store's disk; tests'
	alerted func(alert.Group)                      // hears what is told; tests'
	files   fsys.FS                                // of the journal and the alerts; tests'
	hung    time.Duration                          // journalHangs where 0; tests'
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
	if engine.IsCluster(c.Store) {
		if err := engine.CheckCluster(c.Store); err != nil {
			return fmt.Errorf("store: %w", err)
		}
		c.cluster, c.Store = c.Store, cmp.Or(c.StoreFolder, DefaultStore)
	} else if c.StoreFolder != "" {
		return errors.New("store_folder is for a store in a cluster: without one, store names the folder")
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
	if c.files == nil {
		c.files = fsys.OS
	}
	if c.hung == 0 {
		c.hung = journalHangs
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
	return nil
}

// action is what actions are done with.
func (c *Config) action() action.Config {
	a := c.Action
	a.Log = c.Log.Named("action")
	return a
}
