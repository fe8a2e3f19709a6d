package route

// A Matcher is an MQTT topic filter on its own, for whoever only asks whether a
// topic matches. It never changes.
type Matcher struct{ f filter }

// NewMatcher reads an MQTT topic filter; the error says what is wrong with it.
func NewMatcher(s string) (Matcher, error) {
	f, err := parseFilter(s)
	return Matcher{f}, err
}

// Matches reports whether the filter takes topic (MQTT 5, 4.7).
func (m Matcher) Matches(topic string) bool { return m.f.matches(topic) }
