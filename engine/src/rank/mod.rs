//! Ranking: a pure function from candidates and features to an order.
