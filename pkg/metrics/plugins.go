package metrics

// PluginSample holds the numbers of one plugin of plugins.d.
type PluginSample struct {
	Plugin    string `label:"plugin"`
	Delivered uint64 `metric:"plugin_records_total" help:"Records written to a plugin."`
	Dropped   uint64 `metric:"plugin_dropped_total" help:"Records a plugin was to get and did not: its queue was full, or it was down."`
	Restarts  uint64 `metric:"plugin_restarts_total" help:"Times a plugin that ended unexpectedly was started again."`
	Queued    int    `metric:"plugin_queue_records" help:"Records waiting for a plugin."`
	Up        bool   `metric:"plugin_up" help:"1 while a plugin runs and is not suspended."`
}

// ReadCollectorPlugins registers the collector's plugins.
func ReadCollectorPlugins(r *Registry, each func(yield func(PluginSample))) {
	readEach(r, collector, each)
}

// ReadForwarderPlugins registers the forwarder's plugins.
func ReadForwarderPlugins(r *Registry, each func(yield func(PluginSample))) {
	readEach(r, forwarder, each)
}
