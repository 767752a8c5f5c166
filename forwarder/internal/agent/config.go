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
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// The sources that are no file.
const (
	SourceKernel    = "kernel"
	SourceMulticast = "multicast"
	SourceStdin     = "stdin"
	SourceNone      = "(none)" // only what the spool holds is shipped
)

// Config is for Open.
type Config struct {
	Source    string // one of the above, or a file's path
	Follow    bool   // the file goes on, through rotation
	StateFile string // how far a followed file was read, or the kernel's serials were taken in; "": not kept
	// StateUnnamed is for a StateFile that nobody has named: what else stands in its place
	// is said, and left alone, and the kernel is read.
	StateUnnamed bool
	Stdin        *os.File

	Node  string          // "" for none
	Log   locallog.Config // no Path: no local log
	Spool spool.Options   // used with Ship
	// DropLines makes a full spool drop its oldest records also when the source
	// could wait.
	DropLines bool
	Ship      *ship.Config // nil: records stay on this host
	// Remote is what to do when shipping meets trouble.
	Remote RemoteActions

	Actions action.Config // for the local log and the plugins
	// Reload reads the configuration again; nil: it can't be.
	Reload func(ctx context.Context) (Changed, error)
	// Report is where the state report goes, "" for none; every ReportEvery, 0:
	// when asked for.
	Report      string
	ReportEvery time.Duration
	// Boot is where it is noted, for the present boot, when auditing was first on and what
	// the kernel had lost when that was last said; no path: nothing is.
	Boot boot.Notes
	// PIDFile is written once records can come in, and removed at the end; "": none.
	PIDFile string
	// PriorityBoost is auditd.conf's priority_boost: the niceness taken off.
	PriorityBoost int

	// Plugins are the programs of plugins.d, with the kernel's records; nil: none.
	Plugins *dispatch.Config
	// Enrich appends the enriched tail to a record of the kernel's; nil: records
	// stay raw.
	Enrich func(dst []byte, r *record.Record) []byte
	// Names is where Enrich has names from, to be counted and closed; nil: nowhere.
	Names *nss.System

	Kernel kernel.Config
	// OpenKernel opens the kernel source; nil: kernel.Open.
	OpenKernel func(kernel.Config) (*kernel.Listener, error)

	// Plugin: standard input is a dispatcher's that starts us again. At its end what is
	// spooled stays for the next start at once, and a spool that another process (the
	// instance before) has is waited for.
	Plugin bool

	DrainTimeout    time.Duration // at the end of the input, default 30 s
	ShutdownTimeout time.Duration // for shipping what is spooled when told to end, default 5 s

	HTTP    string // address for /metrics, "" for none
	Metrics *metrics.Registry

	Version string
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
