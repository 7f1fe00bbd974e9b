package tokencache

import "container/list"

// recency is a bounded set of entries. The least recently used one goes first. It is not safe for concurrent use.
type recency struct {
	limit int
	byKey map[Key]*list.Element // :: key → its place in order
	order *list.List            // of used, the most recently used one in front
}

type used struct {
	key   Key
	entry *Entry
}

func newRecency(limit int) recency {
	return recency{limit: limit, byKey: map[Key]*list.Element{}, order: list.New()}
}

// get returns the entry of a key, which is thereby used, or nil.
func (r *recency) get(key Key) *Entry {
	place := r.byKey[key]
	if place == nil {
		return nil
	}
	r.order.MoveToFront(place)
	return place.Value.(used).entry
}

// put adds an entry or takes the place of the one with the same key.
func (r *recency) put(key Key, e *Entry) {
	if place := r.byKey[key]; place != nil {
		place.Value = used{key, e}
		r.order.MoveToFront(place)
		return
	}
	r.byKey[key] = r.order.PushFront(used{key, e})
	r.trim()
}

func (r *recency) trim() {
	for r.order.Len() > r.limit {
		r.remove(r.order.Back())
	}
}

// removeIf removes the entries that f says so of.
func (r *recency) removeIf(f func(*Entry) bool) {
	for place := r.order.Front(); place != nil; {
		next := place.Next()
		if f(place.Value.(used).entry) {
			r.remove(place)
		}
		place = next
	}
}

func (r *recency) remove(place *list.Element) {
	delete(r.byKey, place.Value.(used).key)
	r.order.Remove(place)
}
