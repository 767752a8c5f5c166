package metrics

import "github.com/prometheus/client_golang/prometheus"

// PluginSample is what is known of a plugin of plugins.d when a scrape asks.
type PluginSample struct {
	Plugin             string
	Delivered, Dropped uint64
	Restarts           uint64
	Queued             int
	Up                 bool
}

// Plugins registers the series of the plugins, under names that begin with
// prefix, such as auditfleet_forwarder_. each is called at each scrape.
func (r *Registry) Plugins(prefix string, each func(func(PluginSample))) {
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, []string{"plugin"}, nil)
	}
	r.reg.MustRegister(&plugins{
		each:      each,
		delivered: d("plugin_records_total", "Records written to a plugin."),
		dropped:   d("plugin_dropped_total", "Records a plugin was to get and did not: its queue was full, or it was down."),
		restarts:  d("plugin_restarts_total", "Times a plugin that ended unexpectedly was started again."),
		queued:    d("plugin_queue_records", "Records waiting for a plugin."),
		up:        d("plugin_up", "1 while a plugin runs and is not suspended."),
	})
}

type plugins struct {
	each                                     func(func(PluginSample))
	delivered, dropped, restarts, queued, up *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (p *plugins) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p.delivered, p.dropped, p.restarts, p.queued, p.up} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (p *plugins) Collect(ch chan<- prometheus.Metric) {
	p.each(func(s PluginSample) {
		up := 0.0
		if s.Up {
			up = 1
		}
		put := func(d *prometheus.Desc, t prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, t, v, s.Plugin)
		}
		put(p.delivered, prometheus.CounterValue, float64(s.Delivered))
		put(p.dropped, prometheus.CounterValue, float64(s.Dropped))
		put(p.restarts, prometheus.CounterValue, float64(s.Restarts))
		put(p.queued, prometheus.GaugeValue, float64(s.Queued))
		put(p.up, prometheus.GaugeValue, up)
	})
}
