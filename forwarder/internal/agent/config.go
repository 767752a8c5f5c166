package agent

import (
	"context"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/locallog"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/forwarder/internal/witness"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// The values of Config.Source that are not a file's path.
const (
	SourceKernel    = "kernel"
	SourceMulticast = "multicast"
	SourceStdin     = "stdin"
	SourceNone      = "(none)" // only what the spool holds is shipped
)

// DefaultAlive is how often a statement is made unless something else is configured.
const DefaultAlive = time.Minute

// Config configures Open.
type Config struct {
	Source    string // one of the Source constants, or a file's path
	Follow    bool   // follow the file as it grows and through rotations
	StateFile string // file that stores how far a followed file was read, or the kernel's serials were received; "": none
	// StateUnnamed says that StateFile is the default, which no configuration names: when
	// the path has a file that is no state file, the agent logs that, leaves the file
	// alone, and runs without.
	StateUnnamed bool
	Stdin        *os.File

	Node  string          // "" for none
	Log   locallog.Config // no Path: no local log
	Spool spool.Options   // used with Ship
	// DropLines makes a full spool drop its oldest records also when the source
	// could wait.
	DropLines bool
	Ship      *ship.Config // nil: records stay on this host
	// Witness keeps what collectors sign of their logs, beside the spool; nil: nobody does.
	Witness *witness.Keeper
	// Renew renews this host's certificate until its context ends; nil: there is none.
	Renew func(ctx context.Context)
	// Remote has the actions for trouble with shipping.
	Remote RemoteActions

	Actions action.Config // for the local log and the plugins
	// Reload reads the configuration again; nil: it can't be.
	Reload func(ctx context.Context) (Changed, error)
	// Report is the path of the state report, "" for none. It is written every
	// ReportEvery; 0: only when asked for.
	Report      string
	ReportEvery time.Duration
	// AliveEvery is how often the stream gets a statement that this program lives and how it
	// stands (FORMAT.md); 0: never. A source that ends has none.
	AliveEvery time.Duration
	// Boot stores, for the present boot, when auditing was first on, and up to which value
	// of the kernel's lost counter losses were reported; without a path nothing is stored.
	Boot boot.Notes
	// PIDFile is written once records can arrive, and removed at the end; "": none.
	PIDFile string
	// PriorityBoost is auditd.conf's priority_boost: by how much to lower the nice value.
	PriorityBoost int

	// Plugins are the programs of plugins.d, with the kernel's records; nil: none.
	Plugins *dispatch.Config
	// Enrich appends the enriched tail to a record of the kernel's; nil: records
	// stay raw.
	Enrich func(dst []byte, r *record.Record) []byte
	// Names is the System from which Enrich gets names; the agent reads its counters and
	// closes it; nil: none.
	Names *nss.System

	Kernel kernel.Config
	// OpenKernel opens the kernel source; nil: kernel.Open.
	OpenKernel func(kernel.Config) (*kernel.Listener, error)

	// Plugin says that a dispatcher feeds standard input and starts this program again. At
	// the end of the input, the agent then leaves what is spooled for the next start and
	// does not wait; and Open waits for a spool that another process (the instance
	// before) still has open.
	Plugin bool

	DrainTimeout    time.Duration // at the end of the input, default 30 s
	ShutdownTimeout time.Duration // for shipping what is spooled when told to end, default 5 s

	HTTP    string // address for /metrics, "" for none
	Metrics *metrics.Registry

	Version string
	Commit  string // that it was built of; "" where that is not known
	Logger  hclog.Logger
	Now     func() time.Time

	actionPause time.Duration // tests only: how long an action is not repeated
}

func (c *Config) defaults() {
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 30 * time.Second
	}
	if c.ShutdownTimeout == 0 {
		c.ShutdownTimeout = 5 * time.Second
	}
	if c.Source == "" {
		c.Source = SourceKernel
	}
	if c.Stdin == nil {
		c.Stdin = os.Stdin
	}
	if c.Metrics == nil {
		c.Metrics = metrics.New()
	}
	if c.OpenKernel == nil {
		c.OpenKernel = kernel.Open
	}
}
