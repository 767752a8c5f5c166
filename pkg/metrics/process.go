package metrics

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// CollectorBuild and ForwarderBuild register a metric of 1 that says what the program was built of.
func CollectorBuild(r *Registry, version, commit string) { build(r, collector, version, commit) }

// ForwarderBuild is CollectorBuild for a forwarder.
func ForwarderBuild(r *Registry, version, commit string) { build(r, forwarder, version, commit) }

func build(r *Registry, prefix, version, commit string) {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: prefix + "build_info", Help: "What the program was built of; always 1.",
	}, []string{"version", "commit", "goversion"})
	r.reg.MustRegister(vec)
	vec.WithLabelValues(version, commit, runtime.Version()).Set(1)
}

// ConfigSample says how the last reading of the configuration ended, the one of the start or by SIGHUP.
type ConfigSample struct {
	OK   bool    `metric:"config_last_reload_successful" help:"1 unless the configuration that SIGHUP had read last was wrong: the one before it is in use then."`
	Last float64 `metric:"config_last_reload_success_timestamp_seconds" help:"When a configuration was last taken over, seconds since the epoch."`
}

// Config notes how the configuration was read last. Any goroutine may call its methods.
type Config struct {
	failed atomic.Bool
	good   atomic.Int64 // when one was taken over last, in ms
}

// Read notes how a reading ended, the start's or one by SIGHUP.
func (c *Config) Read(err error, at time.Time) {
	c.failed.Store(err != nil)
	if err == nil {
		c.good.Store(at.UnixMilli())
	}
}

// Refused notes that one was wrong.
func (c *Config) Refused() { c.failed.Store(true) }

// Sample says it to a scrape.
func (c *Config) Sample() ConfigSample {
	return ConfigSample{OK: !c.failed.Load(), Last: float64(c.good.Load()) / 1000}
}

// ReadCollectorConfig registers the metrics of ConfigSample. Each scrape calls sample.
func ReadCollectorConfig(r *Registry, sample func() ConfigSample) { read(r, collector, sample) }

// ReadForwarderConfig is ReadCollectorConfig for a forwarder.
func ReadForwarderConfig(r *Registry, sample func() ConfigSample) { read(r, forwarder, sample) }
